"""An incident: what happened between a node's notice and its replacement, folded from a log of entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from spot_failover.outcomes import SUCCESSES, Outcome, Step
from spot_failover.timestamps import parse_utc


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that happened to one departing node. Never altered once written."""

    incident: str  # the departing node's instance id
    fleet: str
    at: datetime
    step: Step
    outcome: Outcome
    noticed_at: datetime
    deadline: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)  # JSON values; what depends on the step


@dataclass(frozen=True, kw_only=True)
class Incident:
    """The state of one node's departure. What has not happened (yet) is None. Times are aware, in UTC."""

    incident: str  # the departing node's instance id
    fleet: str
    noticed_at: datetime
    deadline: datetime
    deregistered_at: datetime | None = None
    drain_requested_at: datetime | None = None
    drain_started_at: datetime | None = None
    drained_at: datetime | None = None  # when the drain ended, whether or not requests were cut
    in_flight_at_notice: int | None = None
    cut_requests: int | None = None
    replacement_requested_at: datetime | None = None
    replacement_instance_id: str | None = None
    replacement_launched_at: datetime | None = None
    replacement_in_service_at: datetime | None = None
    outcomes: Mapping[Step, Outcome] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()

    @property
    def recovery_seconds(self) -> float | None:
        """Seconds from the notice until the replacement was in service."""
        if self.replacement_in_service_at is None:
            return None
        return (self.replacement_in_service_at - self.noticed_at).total_seconds()

    @property
    def awaits_replacement(self) -> bool:
        """Whether a replacement was asked for and none is known."""
        return self.replacement_requested_at is not None and self.replacement_instance_id is None


def fold(entries: Iterable[Entry]) -> Incident:
    """Return the incident that these entries of one departing node tell, in whatever order they come.

    For each step the first success counts, or else the last failure. Raises ValueError without entries.
    """
    ordered = tuple(sorted(entries, key=lambda entry: (entry.at, entry.step)))
    if not ordered:
        raise ValueError("an incident has at least one entry")
    telling = {step: _telling([entry for entry in ordered if entry.step is step]) for step in Step}
    drain = telling[Step.DRAIN]
    replacement = _success(telling[Step.REPLACEMENT])
    return Incident(
        incident=ordered[0].incident,
        fleet=ordered[0].fleet,
        noticed_at=min(entry.noticed_at for entry in ordered),
        deadline=min(entry.deadline for entry in ordered),
        deregistered_at=_success_at(telling[Step.DEREGISTER]),
        drain_requested_at=_success_at(telling[Step.DRAIN_COMMAND]),
        drain_started_at=_time(drain, "started_at"),
        drained_at=_time(drain, "finished_at"),
        in_flight_at_notice=_number(drain, "in_flight_at_start"),
        cut_requests=_number(drain, "cut"),
        replacement_requested_at=_success_at(telling[Step.REPLACEMENT_REQUEST]),
        replacement_instance_id=replacement.detail["instance_id"] if replacement else None,
        replacement_launched_at=_time(replacement, "launched_at"),
        replacement_in_service_at=replacement.at if replacement else None,
        outcomes={step: entry.outcome for step, entry in telling.items() if entry},
        entries=ordered,
    )


def fold_all(entries: Iterable[Entry]) -> list[Incident]:
    """Return the incidents of mixed entries, the oldest notice first."""
    ordered = sorted(entries, key=lambda entry: entry.incident)
    incidents = [fold(group) for _, group in groupby(ordered, key=lambda entry: entry.incident)]
    return sorted(incidents, key=lambda incident: (incident.noticed_at, incident.incident))


def _telling(entries: Sequence[Entry]) -> Entry | None:
    successes = [entry for entry in entries if entry.outcome in SUCCESSES]
    if successes:
        return successes[0]
    return entries[-1] if entries else None


def _success(entry: Entry | None) -> Entry | None:
    return entry if entry and entry.outcome in SUCCESSES else None


def _success_at(entry: Entry | None) -> datetime | None:
    return entry.at if entry and entry.outcome in SUCCESSES else None


def _time(entry: Entry | None, key: str) -> datetime | None:
    text = entry.detail.get(key) if entry else None
    return parse_utc(text) if isinstance(text, str) else None


def _number(entry: Entry | None, key: str) -> int | None:
    value = entry.detail.get(key) if entry else None
    return None if value is None else int(value)
