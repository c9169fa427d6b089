"""What a sweep writes into incidents: where it can, at a time that does not depend on who sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from spot_failover.incidents import Entry, Incident
from spot_failover.outcomes import Outcome, Step
from spot_failover.timestamps import format_milliseconds

from sweep_incidents.judgement import LAG_PATIENCE, Judgement, Limits, lags
from sweep_incidents.surroundings import WAITING, GroupView, Machine


def entry_of(incident: Incident, step: Step, outcome: Outcome, at: datetime, **detail: Any) -> Entry:
    """Return an entry of the incident."""
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


def judged(incident: Incident, judgement: Judgement, *, closes: bool, now: datetime) -> list[Entry]:
    """Return the entries that a judgement is told by: what was missed, as of when it was, and the closing."""
    entries = [
        entry_of(incident, step, Outcome.MISSED, at, told_by="sweep_incidents")
        for step, at in judgement.missed.items()
    ]
    if closes and judgement.closing is not None:
        detail = {"missing": [step.value for step in judgement.missing]} if judgement.missing else {}
        entries.append(entry_of(incident, Step.CLOSE, judgement.closing, now, **detail))
    return entries


def lagging(
    incidents: Sequence[Incident], groups: Iterable[GroupView], *, now: datetime
) -> list[tuple[Incident, Entry]]:
    """Return an entry for each incident of a fleet whose replacement no group launches, the oldest first.

    Once for each incident.
    """
    unfilled = [group for group in groups for _ in range(group.unfilled)]
    waiting = [one for one in incidents if lags(one, now=now)]
    return [
        (incident, _lag(incident, group))
        for incident, group in zip(waiting, unfilled, strict=False)
        if Step.REPLACEMENT not in incident.outcomes
    ]


def _lag(incident: Incident, group: GroupView) -> Entry:
    assert incident.replacement_requested_at is not None
    return entry_of(
        incident,
        Step.REPLACEMENT,
        Outcome.GROUP_LAGS,
        incident.replacement_requested_at + LAG_PATIENCE,
        group=group.name,
        desired=group.desired,
        unfilled=group.unfilled,
        suspended=list(group.suspended),
    )


def waiting_members(groups: Iterable[GroupView]) -> set[str]:
    """Return the nodes that wait for their launch hook."""
    return {key for group in groups for key, state in group.members.items() if state == WAITING}


def overlong_boots(
    incidents: Sequence[Incident],
    waiting: Mapping[str, Machine],
    *,
    now: datetime,
    limits: Limits,
) -> list[tuple[Incident, Entry]]:
    """Return an entry for each node that boots past every limit, on the incident that waits longest for one.

    The node gives up by itself before that, or else its agent never ran; the launch hook ends it later.
    Once for each node.
    """
    told = {
        one.detail.get("instance_id")
        for incident in incidents
        for one in incident.entries
        if one.step is Step.BOOT
    }
    late = {
        key: one for key, one in waiting.items() if key not in told and now >= one.launched_at + limits.boot
    }
    found = []
    open_ones = [one for one in incidents if one.replacement_instance_id is None and one.closed_at is None]
    for key, machine in sorted(late.items(), key=lambda one: one[1].launched_at):
        incident = next((one for one in open_ones if one.noticed_at <= machine.launched_at), None)
        if incident is None:
            continue
        open_ones.remove(incident)
        detail = {
            "instance_id": key,
            "lifecycle_state": WAITING,
            "launched_at": format_milliseconds(machine.launched_at),
        }
        at = machine.launched_at + limits.boot
        found.append((incident, entry_of(incident, Step.BOOT, Outcome.MISSED, at, **detail)))
    return found
