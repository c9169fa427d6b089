"""What Systems Manager keeps of commands: statuses, outputs, and the events about them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from local_aws.auto_scaling.events import Event
from local_aws.auto_scaling.members import instance_arn
from local_aws.run_command.documents import Step

# GetCommandInvocation shows the first 24,000 characters, ListCommandInvocations 2,500.
_LONGEST_OUTPUT = 24_000
_LONGEST_DETAIL = 2_500


class Status(StrEnum):
    """The statuses of an invocation, and of a command, that occur here."""

    PENDING = "Pending"
    IN_PROGRESS = "InProgress"
    SUCCESS = "Success"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    CANCELLED = "Cancelled"


@dataclass
class Invocation:
    """A command on one node. Times are epoch seconds."""

    command: Command
    instance_id: str
    status: Status = Status.PENDING
    details: str = "Pending"
    plugin: str = ""
    response_code: int = -1
    started_at: float | None = None
    ended_at: float | None = None
    output: str = ""
    error: str = ""
    cancelled: bool = False

    @property
    def script(self) -> str:
        """All that it runs."""
        return "\n".join(step.script for step in self.command.steps)

    @property
    def seconds(self) -> float:
        """How long it may run."""
        return sum(step.timeout_seconds for step in self.command.steps)

    @property
    def over(self) -> bool:
        """Whether the status is final."""
        return self.status not in (Status.PENDING, Status.IN_PROGRESS)

    def description(self) -> dict[str, Any]:
        """Return GetCommandInvocation's answer."""
        seconds = (self.ended_at or time.time()) - self.started_at if self.started_at else 0.0
        return {
            "CommandId": self.command.command_id,
            "InstanceId": self.instance_id,
            "Comment": self.command.comment,
            "DocumentName": self.command.document_name,
            "DocumentVersion": self.command.document_version,
            "PluginName": self.plugin or "aws:runShellScript",
            "ResponseCode": self.response_code,
            "ExecutionStartDateTime": _iso(self.started_at),
            "ExecutionElapsedTime": f"PT{seconds:.3f}S",
            "ExecutionEndDateTime": _iso(self.ended_at),
            "Status": self.status.value,
            "StatusDetails": self.details,
            "StandardOutputContent": self.output[:_LONGEST_OUTPUT],
            "StandardOutputUrl": "",
            "StandardErrorContent": self.error[:_LONGEST_OUTPUT],
            "StandardErrorUrl": "",
        }

    def summary(self, *, details: bool) -> dict[str, Any]:
        """Return one entry of ListCommandInvocations' answer."""
        answer: dict[str, Any] = {
            "CommandId": self.command.command_id,
            "InstanceId": self.instance_id,
            "Comment": self.command.comment,
            "DocumentName": self.command.document_name,
            "DocumentVersion": self.command.document_version,
            "RequestedDateTime": datetime.fromtimestamp(self.command.requested_at, UTC),
            "Status": self.status.value,
            "StatusDetails": self.details,
            "CommandPlugins": [],
        }
        if details and self.started_at is not None:
            plugin = {
                "Name": self.plugin,
                "Status": self.status.value,
                "StatusDetails": self.details,
                "ResponseCode": self.response_code,
                "ResponseStartDateTime": datetime.fromtimestamp(self.started_at, UTC),
                "Output": (self.output + self.error)[:_LONGEST_DETAIL],
            }
            answer["CommandPlugins"] = [plugin]
        return answer


@dataclass
class Command:
    """One SendCommand."""

    document_name: str
    document_version: str
    parameters: Mapping[str, Sequence[str]]
    steps: Sequence[Step]
    comment: str
    timeout_seconds: int
    targets: Sequence[Mapping[str, Any]]
    command_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    requested_at: float = field(default_factory=time.time)
    invocations: dict[str, Invocation] = field(default_factory=dict)
    told: Status | None = None
    """The status that the last command-level event gave."""

    @property
    def expires_at(self) -> float:
        """When an invocation that no node has taken up is given up."""
        return self.requested_at + self.timeout_seconds

    @property
    def status(self) -> Status:
        """The command's status, from those of its invocations."""
        return overall(invocation.status for invocation in self.invocations.values())

    def description(self) -> dict[str, Any]:
        """Return the Command structure of SendCommand and ListCommands."""
        over = [invocation for invocation in self.invocations.values() if invocation.over]
        status = self.status.value
        return {
            "CommandId": self.command_id,
            "DocumentName": self.document_name,
            "DocumentVersion": self.document_version,
            "Comment": self.comment,
            "ExpiresAfter": datetime.fromtimestamp(self.expires_at, UTC),
            "Parameters": {name: list(values) for name, values in self.parameters.items()},
            "InstanceIds": [] if self.targets else list(self.invocations),
            "Targets": list(self.targets),
            "RequestedDateTime": datetime.fromtimestamp(self.requested_at, UTC),
            "Status": status,
            "StatusDetails": status,
            "MaxConcurrency": "50",
            "MaxErrors": "0",
            "TargetCount": len(self.invocations),
            "CompletedCount": len(over),
            "ErrorCount": sum(i.status is not Status.SUCCESS for i in over),
            "TimeoutSeconds": self.timeout_seconds,
        }


def overall(statuses: Iterable[Status]) -> Status:
    """Return a command's status: it goes on while one invocation does, and succeeds only if all did."""
    found = set(statuses)
    if found & {Status.PENDING, Status.IN_PROGRESS}:
        return Status.PENDING if found == {Status.PENDING} else Status.IN_PROGRESS
    for worst in (Status.FAILED, Status.TIMED_OUT, Status.CANCELLED):
        if worst in found:
            return worst
    return Status.SUCCESS


def invocation_event(invocation: Invocation, *, region: str, account_id: str) -> Event:
    """Return the event about a status of an invocation, in the shape of AWS's sample."""
    command = invocation.command
    return Event(
        "aws.ssm",
        "EC2 Command Invocation Status-change Notification",
        {
            "command-id": command.command_id,
            "document-name": command.document_name,
            "instance-id": invocation.instance_id,
            "requested-date-time": _iso(command.requested_at),
            "status": invocation.status.value,
        },
        (instance_arn(region, account_id, invocation.instance_id),),
    )


def command_event(command: Command) -> Event:
    """Return the event about a command's status."""
    return Event(
        "aws.ssm",
        "EC2 Command Status-change Notification",
        {
            "command-id": command.command_id,
            "document-name": command.document_name,
            "expire-after": _iso(command.expires_at),
            "parameters": {name: list(values) for name, values in command.parameters.items()},
            "requested-date-time": _iso(command.requested_at),
            "status": command.status.value,
        },
        (),
    )


def _iso(at: float | None) -> str:
    if at is None:
        return ""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
