"""What follows an engine's failure: another start, after a pause, or none."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class GiveUp:
    """Start it no more: it failed this often within the window."""

    failures: int


def after_failure(
    failed_at: Sequence[float], *, now: float, limit: int, window_seconds: float
) -> Restart | GiveUp:
    """Decide what follows the last of these failures (seconds of one monotonic clock).

    Up to `limit` restarts in a window, each after twice the pause of the one before.
    """
    recent = sum(now - at <= window_seconds for at in failed_at)
    if recent > limit:
        return GiveUp(recent)
    return Restart(min(2.0 ** max(0, recent - 1), LONGEST_PAUSE_SECONDS))
