"""One interruption as the report tells it: when each step happened and how long the fleet was short. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from local_aws.demo.boots import Boot

# Filled only where the incident went wrong, so their absence is no missing step.
_NOT_STEPS = frozenset({"capacity_restored", "replacement_launched_at"})


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """A node's departure. Times are the incident record's, in UTC; None is a step that did not happen."""

    instance_id: str
    noticed_at: datetime
    deadline: datetime
    deregistered_at: datetime | None = None
    drain_requested_at: datetime | None = None
    drain_started_at: datetime | None = None
    drained_at: datetime | None = None
    in_flight_at_notice: int | None = None
    """Requests that the engine held when the drain began."""
    cut_requests: int | None = None
    """Requests that the drain had to end before they were finished."""
    replacement_requested_at: datetime | None = None
    replacement_instance_id: str | None = None
    replacement_launched_at: datetime | None = None
    replacement_in_service_at: datetime | None = None
    recovery_seconds: float | None = None
    """From the notice until Auto Scaling has the replacement in service."""
    capacity_gap_seconds: float | None = None
    """How long, from the notice on, fewer nodes than desired were healthy in the target group."""
    capacity_restored: bool = False
    """False where the gap was still open when the watching ended."""
    recovery_parts: Mapping[str, float] | None = None
    """What the recovery consists of, in seconds by part, as the incident tells it."""
    boot: Boot | None = None
    """The replacement's boot, as its own agent tells it."""

    @property
    def engine_start_seconds(self) -> float | None:
        """From the start of the replacement's engine to its first completion."""
        return None if self.boot is None else self.boot.engine_seconds

    def missing_steps(self) -> tuple[str, ...]:
        """Name the fields that nothing has filled."""
        names = (field.name for field in fields(self) if field.name not in _NOT_STEPS)
        return tuple(name for name in names if getattr(self, name) is None)

    def action_seconds(self) -> dict[str, float | None]:
        """Return how long after the notice each of the three actions was requested."""
        asked = {
            "deregistration": self.deregistered_at,
            "drain": self.drain_requested_at,
            "replacement": self.replacement_requested_at,
        }
        return {name: self._since_notice(at) for name, at in asked.items()}

    def steps(self) -> Iterator[tuple[datetime, str]]:
        """Yield the steps that happened, in order of time, as (time, what)."""
        named = (
            (self.noticed_at, "notice"),
            (self.deregistered_at, "deregistered"),
            (self.drain_requested_at, "drain requested"),
            (self.replacement_requested_at, "replacement requested"),
            (self.drain_started_at, "drain begins"),
            (self.drained_at, "drained"),
            (self.replacement_in_service_at, "replacement in service"),
        )
        yield from sorted((at, name) for at, name in named if at is not None)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; times ISO 8601 in UTC with milliseconds."""
        told = {field.name: as_json_value(getattr(self, field.name)) for field in fields(self)}
        boot = None if self.boot is None else as_json_value(self.boot.as_json())
        return {**told, "boot": boot, "engine_start_seconds": as_json_value(self.engine_start_seconds)}

    def _since_notice(self, at: datetime | None) -> float | None:
        return None if at is None else (at - self.noticed_at).total_seconds()


def as_json_value(value: Any) -> Any:
    """Return a value as it stands in report.json."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, Mapping):
        return {key: as_json_value(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [as_json_value(item) for item in value]
    return value
