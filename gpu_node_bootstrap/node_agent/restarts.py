"""What follows an engine's failure: another start, after a pause, or none."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .times import format_utc

LONGEST_PAUSE_SECONDS = 30.0


class Cause(str, Enum):
    """How an engine failed."""

    CRASHED = "crashed"
    """It ended, and nobody had asked it to."""
    HUNG = "hung"
    """It lives and answers nothing."""
    NOT_READY = "not_ready"
    """Started again, it did not become ready in time."""
    NOT_STARTED = "not_started"
    """It could not be started at all."""


@dataclass(frozen=True)
class Failure:
    """An engine's failure, as `/status` shows the last one. `at` is epoch seconds."""

    cause: Cause
    reason: str
    at: float

    def to_json(self) -> dict[str, object]:
        """Return it with its time in UTC."""
        return {"cause": self.cause.value, "reason": self.reason, "at": format_utc(self.at)}


@dataclass(frozen=True)
class Restart:
    """Start the engine again after a pause."""

    pause_seconds: float
    failures: int
    """In a row, this one included: to be handed to the next decision."""


@dataclass(frozen=True)
class GiveUp:
    """Start it no more: it failed this often in a row."""

    failures: int


def after_failure(
    failures_before: int, *, served_seconds: float, limit: int, window_seconds: float
) -> Restart | GiveUp:
    """Decide what follows a failure of an engine that had been ready for `served_seconds`.

    Up to `limit` restarts, each after twice the pause of the one before. Only an engine that stayed ready for
    the whole window begins a new row: how long the others took to fail says nothing for them.
    """
    failures = 1 if served_seconds >= window_seconds else failures_before + 1
    if failures > limit:
        return GiveUp(failures)
    return Restart(min(2.0 ** (failures - 1), LONGEST_PAUSE_SECONDS), failures)
