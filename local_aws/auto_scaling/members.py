"""What Auto Scaling keeps of each member of a group, beside moto's own record of it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from local_aws.auto_scaling.events import Scaling

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
# A hook's heartbeats can extend its wait to 48 hours or 100 heartbeats, whichever is less (user guide,
# "Lifecycle hooks"); 48 hours is what moto's hook holds as its global timeout.
_MOST_HEARTBEATS = 100


class Lifecycle(StrEnum):
    """The lifecycle states of a group's member that occur here."""

    PENDING = "Pending"
    PENDING_WAIT = "Pending:Wait"
    PENDING_PROCEED = "Pending:Proceed"
    IN_SERVICE = "InService"
    ENTERING_STANDBY = "EnteringStandby"
    STANDBY = "Standby"
    TERMINATING = "Terminating"
    TERMINATING_WAIT = "Terminating:Wait"
    TERMINATING_PROCEED = "Terminating:Proceed"
    TERMINATED = "Terminated"
    DETACHING = "Detaching"
    DETACHED = "Detached"


COMING = (Lifecycle.PENDING, Lifecycle.PENDING_WAIT, Lifecycle.PENDING_PROCEED)
"""The states that count towards desired capacity beside InService."""


@dataclass
class HookWait:
    """A wait for CompleteLifecycleAction. Times are epoch seconds."""

    hook: Any
    transition: str
    token: str
    ends_at: float
    started_at: float

    def extend(self, now: float) -> None:
        """Take a heartbeat: start the hook's timeout again."""
        longest = min(self.hook.global_timeout, _MOST_HEARTBEATS * self.hook.heartbeat_timeout)
        self.ends_at = min(now + self.hook.heartbeat_timeout, self.started_at + longest)


@dataclass
class Member:
    """One member of a group. `record` is moto's InstanceState, which the API describes."""

    record: Any
    group: Any
    cause: str
    activity_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    started_at: float = field(default_factory=time.time)
    wait: HookWait | None = None
    in_service_at: float | None = None
    sick_since: float | None = None
    reported_sick: bool = False
    """Somebody set its health by an API call; the group's own checks do not take that back."""
    deregisters_at: float | None = None
    """When a detachment takes it out of its group's target groups, until it has."""
    replacement: str | None = None
    """The member that was launched to replace this unhealthy one before it is ended."""

    @property
    def instance_id(self) -> str:
        """The instance's id."""
        return str(self.record.instance.id)

    @property
    def state(self) -> Lifecycle:
        """The member's lifecycle state, as the API describes it."""
        return Lifecycle(self.record.lifecycle_state)

    @property
    def running(self) -> bool:
        """Whether the instance runs, as EC2 sees it."""
        return bool(self.record.instance.state == "running")

    def begin(self, cause: str) -> None:
        """Begin a new activity: a termination or a detachment."""
        self.cause, self.started_at = cause, time.time()
        self.activity_id, self.request_id = str(uuid.uuid4()), str(uuid.uuid4())

    def scaling(self) -> Scaling:
        """Return the member's current activity as events describe it."""
        instance = self.record.instance
        return Scaling(
            group_name=self.group.name,
            group_arn=self.group.arn,
            instance_id=self.instance_id,
            instance_arn=instance_arn(self.group.region, self.group.account_id, self.instance_id),
            zone=str(self.record.availability_zone),
            subnet_id=str(instance.subnet_id or ""),
            activity_id=self.activity_id,
            request_id=self.request_id,
            cause=self.cause,
            started_at=self.started_at,
        )


def instance_arn(region: str, account_id: str, instance_id: str) -> str:
    """Return an instance's ARN."""
    return f"arn:aws:ec2:{region}:{account_id}:instance/{instance_id}"
