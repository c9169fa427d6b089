"""An incident: what happened between a node's notice and its replacement, folded from a log of entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import Any

from spot_failover.outcomes import SUCCESSES, Outcome, Step
from spot_failover.timestamps import parse_utc

# The parts of a boot's path, in the order in which they come to pass; the node agent names them.
BOOT_PARTS = ("kernel", "user_data", "fetch", "engine", "warm_up", "in_service")


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
    replacement_booted_at: datetime | None = None  # when its machine started
    boot_phases: Mapping[str, float] | None = None  # seconds of its boot by what it waited for, in order
    replacement_in_service_at: datetime | None = None
    node_ended_at: datetime | None = None  # when the sweeper ended a node that outlived its notice
    closed_at: datetime | None = None  # None again when a later notice came; what else comes still counts
    outcomes: Mapping[Step, Outcome] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()

    @property
    def last_noticed_at(self) -> datetime:
        """The latest of its notices: one can be told late or be withdrawn, and another follow."""
        return max((entry.noticed_at for entry in self.entries), default=self.noticed_at)

    @property
    def last_deadline(self) -> datetime:
        """When the node dies by the latest of its notices."""
        return max((entry.deadline for entry in self.entries), default=self.deadline)

    @property
    def recovery_seconds(self) -> float | None:
        """Seconds from the notice until the replacement was in service."""
        if self.replacement_in_service_at is None:
            return None
        return (self.replacement_in_service_at - self.noticed_at).total_seconds()

    @property
    def recovery_parts(self) -> Mapping[str, float] | None:
        """Seconds of the recovery by what it waited for, in order; together they are the whole.

        `launch`: from the notice until the group launched; `machine`: until the machine started; then the
        boot's own parts, the last of which ends with the node in service. None until the boot is known.
        """
        launched_at, booted_at = self.replacement_launched_at, self.replacement_booted_at
        if launched_at is None or booted_at is None or self.boot_phases is None:
            return None
        launch = (launched_at - self.noticed_at).total_seconds()
        return {"launch": launch, "machine": (booted_at - launched_at).total_seconds(), **self.boot_phases}

    @property
    def awaits_replacement(self) -> bool:
        """Whether a replacement was asked for and none is known."""
        return self.replacement_requested_at is not None and self.replacement_instance_id is None


def fold(entries: Iterable[Entry]) -> Incident:
    """Return the incident that these entries of one departing node tell, in whatever order they come.

    For each step the first success counts, or else the last failure; a drain has rules of its own. Raises
    ValueError without entries.
    """
    ordered = tuple(sorted(entries, key=lambda entry: (entry.at, entry.step)))
    if not ordered:
        raise ValueError("an incident has at least one entry")
    telling = {step: _telling(step, [entry for entry in ordered if entry.step is step]) for step in Step}
    drain = telling[Step.DRAIN]
    replacement = _success(telling[Step.REPLACEMENT])
    boot = _boot_of(replacement, ordered)
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
        replacement_booted_at=_time(boot, "booted_at"),
        boot_phases=_in_order(boot.detail["path"]) if boot else None,
        replacement_in_service_at=replacement.at if replacement else None,
        node_ended_at=_success_at(telling[Step.NODE_END]),
        closed_at=_closed_at(ordered),
        outcomes={step: entry.outcome for step, entry in telling.items() if entry},
        entries=ordered,
    )


def fold_all(entries: Iterable[Entry]) -> list[Incident]:
    """Return the incidents of mixed entries, the oldest notice first."""
    ordered = sorted(entries, key=lambda entry: entry.incident)
    incidents = [fold(group) for _, group in groupby(ordered, key=lambda entry: entry.incident)]
    return sorted(incidents, key=lambda incident: (incident.noticed_at, incident.incident))


def _telling(step: Step, entries: Sequence[Entry]) -> Entry | None:
    if step is Step.DRAIN:
        return _telling_drain(entries)
    successes = [entry for entry in entries if entry.outcome in SUCCESSES]
    if successes:
        return successes[0]
    return entries[-1] if entries else None


def _telling_drain(entries: Sequence[Entry]) -> Entry | None:
    """Return the drain's report: Run Command's first, which vouches for its sender; an event does not."""
    reports = [entry for entry in entries if entry.outcome is not Outcome.UNREPORTED]
    by_command = [entry for entry in reports if "command_id" in entry.detail]
    return next(iter(by_command or reports or reversed(entries)), None)


def since_closing(incident: Incident) -> Incident:
    """Return what of an incident came after its last closing: a new notice begins anew."""
    closings = [entry.at for entry in incident.entries if entry.step is Step.CLOSE]
    later = [entry for entry in incident.entries if not closings or entry.at > closings[-1]]
    return fold(later) if closings and later else incident


def _closed_at(entries: Sequence[Entry]) -> datetime | None:
    """Return when the incident was closed, unless it had a notice after that."""
    closings = [entry.at for entry in entries if entry.step is Step.CLOSE]
    last_noticed_at = max(entry.noticed_at for entry in entries)
    return closings[-1] if closings and closings[-1] >= last_noticed_at else None


def _boot_of(replacement: Entry | None, entries: Sequence[Entry]) -> Entry | None:
    instance_id = replacement.detail["instance_id"] if replacement else None
    booted = (one for one in entries if one.step is Step.BOOT and one.outcome is Outcome.BOOTED)
    return next((one for one in booted if one.detail["instance_id"] == instance_id), None)


def _in_order(path: Mapping[str, float]) -> dict[str, float]:
    # A map of DynamoDB's has no order. A newer agent may know further parts.
    known = [name for name in BOOT_PARTS if name in path]
    return {name: float(path[name]) for name in [*known, *sorted(set(path) - set(known))]}


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
