"""What each event adds to its incident."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, assert_never

from spot_failover.departures import ActionResult
from spot_failover.errors import aws_call
from spot_failover.incident_table import Claim, IncidentTable
from spot_failover.incidents import Entry, Incident
from spot_failover.outcomes import Outcome, Step
from spot_failover.timestamps import format_milliseconds

from track_incident.drain_report import parse_drain_report
from track_incident.events import CommandChanged, LaunchFailed, LaunchSucceeded, TrackedEvent
from track_incident.matching import WINDOW, awaiting, replaced_by

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

PATIENCE = 3  # receptions of a command's event before its incident is taken not to exist


@dataclass(frozen=True)
class Finding:
    """What an event meant. An `entry` that is not `recorded` yet is still to be written."""

    step: Step
    result: ActionResult
    instance_id: str | None = None
    fleet: str | None = None
    entry: Entry | None = None
    recorded: bool = field(default=False)


def step_of(event: TrackedEvent) -> Step:
    """Return the step that an event tells about."""
    match event:
        case LaunchSucceeded():
            return Step.REPLACEMENT
        case LaunchFailed():
            return Step.LAUNCH_FAILED
        case CommandChanged():
            return Step.DRAIN
        case _:
            assert_never(event)


class Tracker:
    """Finds the incident of an event and what to add to it. Repeats of an event add the same entry again."""

    def __init__(self, table: IncidentTable, ssm: SSMClient) -> None:
        self._table = table
        self._ssm = ssm

    def launch(self, event: LaunchSucceeded, fleet: str) -> Finding:
        """Give the launched instance to the incident it ends, once. Raises AwsCallError."""
        incidents = self._table.incidents_of_fleet(fleet, since=event.launched_at - WINDOW)
        known = replaced_by(incidents, event.instance_id)
        if known is not None:
            return _outside(event, fleet, Outcome.ALREADY_ASSIGNED, replaces=known.incident)
        for incident in awaiting(incidents, launched_at=event.launched_at):
            detail = {
                "instance_id": event.instance_id,
                "launched_at": format_milliseconds(event.launched_at),
                "group": event.group_name,
            }
            entry = _entry(incident, Step.REPLACEMENT, Outcome.IN_SERVICE, event.in_service_at, detail)
            match self._table.claim_replacement(entry, replacement=event.instance_id):
                case Claim.MADE:
                    return _found(entry, recorded=True)
                case Claim.REPLACEMENT_TAKEN:
                    return _outside(event, fleet, Outcome.ALREADY_ASSIGNED)
                case Claim.DEPARTURE_TAKEN:
                    continue  # the index lagged behind: somebody else's replacement came first
        return _outside(event, fleet, Outcome.NOT_A_REPLACEMENT)

    def failed_launch(self, event: LaunchFailed, fleet: str) -> Finding:
        """Tell the incident that waits longest that a launch failed. Raises AwsCallError."""
        incidents = self._table.incidents_of_fleet(fleet, since=event.launched_at - WINDOW)
        waiting = awaiting(incidents, launched_at=event.launched_at)
        if not waiting:
            return _outside(event, fleet, Outcome.NOT_A_REPLACEMENT, reason=event.reason)
        detail = {"reason": event.reason, "group": event.group_name}
        return _found(_entry(waiting[0], Step.LAUNCH_FAILED, Outcome.LAUNCH_FAILED, event.failed_at, detail))

    def command(self, event: CommandChanged, *, receive_count: int) -> Finding:
        """Add the node's own report of its drain. Raises AwsCallError."""
        if not event.status.is_final:
            return _outside(event, None, Outcome.NOT_FINAL, status=event.status.value)
        incident = self._table.incident(event.instance_id)
        if incident is None:
            # A quick command can be over before its sender has written that it was sent.
            outcome = Outcome.RETRYING if receive_count < PATIENCE else Outcome.NO_INCIDENT
            return _outside(event, None, outcome, command_id=event.command_id)
        with aws_call("ssm:GetCommandInvocation"):
            answer = self._ssm.get_command_invocation(
                CommandId=event.command_id, InstanceId=event.instance_id
            )
        report = parse_drain_report(answer.get("StandardOutputContent", ""))
        detail = {"command_id": event.command_id, "status": event.status.value}
        if report is None:
            detail["error"] = answer.get("StandardErrorContent", "")[-300:]
            return _found(_entry(incident, Step.DRAIN, Outcome.UNREPORTED, event.changed_at, detail))
        detail |= report.detail
        return _found(_entry(incident, Step.DRAIN, report.outcome, report.finished_at, detail))


def _entry(incident: Incident, step: Step, outcome: Outcome, at: datetime, detail: dict[str, Any]) -> Entry:
    return Entry(
        incident=incident.incident,
        fleet=incident.fleet,
        at=at,
        step=step,
        outcome=outcome,
        noticed_at=incident.noticed_at,
        deadline=incident.deadline,
        detail=detail,
    )


def _found(entry: Entry, *, recorded: bool = False) -> Finding:
    result = ActionResult(entry.outcome, entry.detail)
    return Finding(entry.step, result, entry.incident, entry.fleet, entry, recorded)


def _outside(event: TrackedEvent, fleet: str | None, outcome: Outcome, **detail: str) -> Finding:
    instance_id = None if isinstance(event, LaunchFailed) else event.instance_id
    return Finding(step_of(event), ActionResult(outcome, detail), instance_id, fleet)
