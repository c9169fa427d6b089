"""The events that tell how an incident goes on, in typed shapes.

Their fields are those of the EC2 Auto Scaling event reference and of Systems Manager's EventBridge reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from spot_failover import envelopes
from spot_failover.envelopes import Event
from spot_failover.errors import MalformedMessageError

from track_incident import node_events
from track_incident.node_events import NodeBootFailed, NodeDrained, NodeEngineFailed, NodeReady

LAUNCH_SUCCESSFUL = ("aws.autoscaling", "EC2 Instance Launch Successful")
LAUNCH_UNSUCCESSFUL = ("aws.autoscaling", "EC2 Instance Launch Unsuccessful")
LONGEST_GROUP = 255  # characters of a group's name, by Auto Scaling's API reference
COMMAND_STATUS = ("aws.ssm", "EC2 Command Invocation Status-change Notification")


class CommandStatus(StrEnum):
    """The states of a command on one node, as its events name them."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    DELAYED = "Delayed"
    CANCELLING = "Cancelling"
    SUCCESS = "Success"
    CANCELLED = "Cancelled"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"

    @property
    def is_final(self) -> bool:
        """Whether the command has ended."""
        return self in {self.SUCCESS, self.CANCELLED, self.FAILED, self.TIMED_OUT}


@dataclass(frozen=True, kw_only=True)
class LaunchSucceeded:
    """A group's instance came into service: its lifecycle hook, if there is one, is completed."""

    group_name: str
    instance_id: str
    launched_at: datetime
    in_service_at: datetime


@dataclass(frozen=True, kw_only=True)
class LaunchFailed:
    """A group could not launch an instance; it tries again by itself."""

    group_name: str
    launched_at: datetime
    failed_at: datetime
    reason: str


@dataclass(frozen=True, kw_only=True)
class CommandChanged:
    """A command's status on one node changed."""

    command_id: str
    instance_id: str
    status: CommandStatus
    changed_at: datetime


LaunchEvent = LaunchSucceeded | LaunchFailed
# All that can belong to an incident; an engine's failure belongs to none.
IncidentEvent = LaunchEvent | CommandChanged | NodeReady | NodeBootFailed | NodeDrained
TrackedEvent = IncidentEvent | NodeEngineFailed


def parse_tracked_event(body: str) -> TrackedEvent:
    """Read a message's body. Raises MalformedMessageError, saying what is wrong, for everything else."""
    event = envelopes.parse_event(body)
    kind = (event.source, event.detail_type)
    if kind == LAUNCH_SUCCESSFUL:
        return LaunchSucceeded(
            group_name=envelopes.name(event.detail, "AutoScalingGroupName", longest=LONGEST_GROUP),
            instance_id=envelopes.instance_id(event.detail, "EC2InstanceId"),
            launched_at=_time(event, "StartTime"),
            in_service_at=_time(event, "EndTime"),
        )
    if kind == LAUNCH_UNSUCCESSFUL:
        return LaunchFailed(
            group_name=envelopes.name(event.detail, "AutoScalingGroupName", longest=LONGEST_GROUP),
            launched_at=_time(event, "StartTime"),
            failed_at=_time(event, "EndTime"),
            reason=str(event.detail.get("StatusMessage", ""))[:300],
        )
    if kind == COMMAND_STATUS:
        return CommandChanged(
            command_id=envelopes.text(event.detail, "command-id"),
            instance_id=envelopes.instance_id(event.detail, "instance-id"),
            status=_status(event),
            changed_at=event.time,
        )
    if event.source == node_events.SOURCE:
        return node_events.parse_node_event(event)
    raise MalformedMessageError("no launch of Auto Scaling, no command's status change, no node's report")


def _time(event: Event, name: str) -> datetime:
    # To the millisecond where the activity has it; the event's own time has whole seconds.
    return envelopes.modern_time(event.detail, name) if name in event.detail else event.time


def _status(event: Event) -> CommandStatus:
    try:
        return CommandStatus(envelopes.text(event.detail, "status"))
    except ValueError as error:
        raise MalformedMessageError(f"status is none of {', '.join(CommandStatus)}") from error
