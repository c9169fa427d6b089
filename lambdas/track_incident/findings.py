"""What an event meant for an incident."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

from spot_failover.departures import ActionResult
from spot_failover.incidents import Entry, Incident
from spot_failover.outcomes import Outcome, Step

from track_incident.events import CommandChanged, IncidentEvent, LaunchFailed, LaunchSucceeded
from track_incident.node_events import NodeBootFailed, NodeDrained, NodeReady

PATIENCE = 3  # receptions of an event before its incident is taken not to exist


@dataclass(frozen=True)
class Finding:
    """What an event meant. An `entry` that is not `recorded` yet is still to be written."""

    step: Step
    result: ActionResult
    instance_id: str | None = None
    fleet: str | None = None
    entry: Entry | None = None
    recorded: bool = field(default=False)


def step_of(event: IncidentEvent) -> Step:
    """Return the step that an event tells about."""
    match event:
        case LaunchSucceeded():
            return Step.REPLACEMENT
        case LaunchFailed():
            return Step.LAUNCH_FAILED
        case CommandChanged() | NodeDrained():
            return Step.DRAIN
        case NodeReady() | NodeBootFailed():
            return Step.BOOT
        case _:
            assert_never(event)


def entry_of(incident: Incident, step: Step, outcome: Outcome, at: datetime, detail: dict[str, Any]) -> Entry:
    """Return an incident's next entry."""
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


def found(entry: Entry, *, recorded: bool = False) -> Finding:
    """Return the finding that an event adds this entry."""
    result = ActionResult(entry.outcome, entry.detail)
    return Finding(entry.step, result, entry.incident, entry.fleet, entry, recorded)


def retold(entry: Entry) -> Finding:
    """Return the finding that an event tells again, and better, what is known: written, not counted again."""
    return Finding(entry.step, ActionResult(Outcome.ALREADY_REPORTED), entry.incident, entry.fleet, entry)


def outside(event: IncidentEvent, fleet: str | None, outcome: Outcome, **detail: str) -> Finding:
    """Return the finding that an event adds nothing to any incident."""
    instance_id = None if isinstance(event, LaunchFailed) else event.instance_id
    return Finding(step_of(event), ActionResult(outcome, detail), instance_id, fleet)


def not_yet(event: IncidentEvent, fleet: str | None, otherwise: Outcome, *, receive_count: int) -> Finding:
    """Return the finding for an event without an incident: it may have overtaken the incident's record."""
    return outside(event, fleet, Outcome.RETRYING if receive_count < PATIENCE else otherwise)
