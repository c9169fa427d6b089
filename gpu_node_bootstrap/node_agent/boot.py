"""The phases of a boot: when each began, how long it took, and what the boot as a whole waited for.

Times are epoch seconds, because the first two phases are over before this process begins. How long a phase
has run, for which a boot may be given up, is measured by the monotonic clock: the other may be set meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from .times import format_utc


class Phase(str, Enum):
    """A part of a boot. IMAGE, WEIGHTS and COMPILE_CACHE run side by side; the others follow one another."""

    KERNEL = "kernel"
    """From the machine's start to the first line of user data."""
    USER_DATA = "user_data"
    """To the first line of the agent."""
    IMAGE = "image"
    """Until the container image is on the node."""
    WEIGHTS = "weights"
    """Until the weights are where the engine reads them."""
    COMPILE_CACHE = "compile_cache"
    """Until a stored compile cache is unpacked, or known not to exist."""
    ENGINE = "engine"
    """From the start of the engine's process until it answers over HTTP."""
    WARM_UP = "warm_up"
    """Until it has answered a real completion: the node is ready."""
    IN_SERVICE = "in_service"
    """Until the group took the node into service."""


FETCHES = frozenset({Phase.IMAGE, Phase.WEIGHTS, Phase.COMPILE_CACHE})
FETCH = "fetch"
"""The name, in a path, of the time in which only the phases that run side by side kept the engine waiting."""


@dataclass(frozen=True)
class PhaseTime:
    """One phase: since when, until when (None: it runs), and what is to be known of it."""

    phase: Phase
    started_at: float
    ended_at: float | None = None
    detail: Mapping[str, object] = field(default_factory=dict)

    def seconds(self, now: float) -> float:
        """Return how long it took, or has taken up to `now`."""
        return max(0.0, (now if self.ended_at is None else self.ended_at) - self.started_at)

    def to_json(self, now: float) -> dict[str, object]:
        """Return it as `/status` and the incident show it."""
        return {
            "phase": self.phase.value,
            "started_at": format_utc(self.started_at),
            "seconds": round(self.seconds(now), 3),
            "ended": self.ended_at is not None,
            **self.detail,
        }


class BootRecord:
    """Collects the phases of one boot, each with its first beginning and its first end. Thread-safe."""

    def __init__(self, *, on_end: Callable[[PhaseTime], None] | None = None) -> None:
        """`on_end` is told of each phase that ends, by whoever ended it."""
        self._on_end = on_end
        self._lock = threading.Lock()
        self._phases: dict[Phase, PhaseTime] = {}
        self._since: dict[Phase, float] = {}

    def begin(self, phase: Phase, *, at: float | None = None) -> None:
        """Begin a phase, now or at a time."""
        with self._lock:
            self._phases.setdefault(phase, PhaseTime(phase, time.time() if at is None else at))
            self._since.setdefault(phase, time.monotonic())

    def end(self, phase: Phase, *, at: float | None = None, **detail: object) -> None:
        """End a phase that runs; `detail` says more about it, e.g. bytes or where they came from."""
        with self._lock:
            known = self._phases.get(phase)
            if known is None or known.ended_at is not None:
                return
            ended_at = time.time() if at is None else at
            ended = PhaseTime(phase, known.started_at, ended_at, {**known.detail, **detail})
            self._phases[phase] = ended
        if self._on_end is not None:
            self._on_end(ended)

    def times(self) -> list[PhaseTime]:
        """Return the phases in the order of their beginning."""
        with self._lock:
            order = list(Phase)
            return sorted(self._phases.values(), key=lambda each: (each.started_at, order.index(each.phase)))

    def running(self) -> list[PhaseTime]:
        """Return the phases that have not ended."""
        return [each for each in self.times() if each.ended_at is None]

    def taken(self) -> dict[Phase, float]:
        """Return for how many seconds each phase that has not ended has run in this process."""
        now = time.monotonic()
        return {each.phase: now - self._since[each.phase] for each in self.running()}

    def to_json(self) -> dict[str, object]:
        """Return all phases, and the path whose parts add up to the boot."""
        now, times = time.time(), self.times()
        return {
            "booted_at": format_utc(times[0].started_at) if times else None,
            "phases": [each.to_json(now) for each in times],
            "path": {name: round(seconds, 3) for name, seconds in critical_path(times, now=now).items()},
        }


@dataclass(frozen=True)
class Stall:
    """A boot that gets no further: the phase that it hangs in, and why it is given up."""

    phase: Phase
    reason: str


def stall(
    taken: Mapping[Phase, float],
    limits: Mapping[Phase, float],
    *,
    start_limit_seconds: float,
    waited_seconds: float,
) -> Stall | None:
    """Return why the boot is to be given up, None while it may go on.

    `taken` is for how many seconds each phase that runs has run, `waited_seconds` how long the agent has
    waited for its engine so far. Blamed is the phase that has outlasted its limit the longest.
    """
    over = {phase: seconds - limits[phase] for phase, seconds in taken.items() if phase in limits}
    late = max(over, key=over.__getitem__, default=None)
    if late is not None and over[late] > 0:
        reason = f"stalled in {late.value}: {taken[late]:.1f} s of at most {limits[late]:g} s"
        return Stall(late, reason)
    if waited_seconds <= start_limit_seconds:
        return None
    # Between two phases, for a moment, none runs: the engine is then about to start.
    phase = max(taken, key=taken.__getitem__, default=Phase.ENGINE)
    return Stall(phase, f"stalled in {phase.value}: not ready within {start_limit_seconds:g} s")


def begin_before_agent(
    boot: BootRecord, *, booted_at: float | None, user_data_started_at: float | None, now: float
) -> None:
    """Record the phases that are over when the agent starts, where they belong to this boot.

    After a reboot, or where only the agent starts again, nobody knows when user data began: the record then
    begins with the agent. A `booted_at` of None asks the kernel how long it has been up.
    """
    if user_data_started_at is None:
        return
    if booted_at is None:
        booted_at = now - time.clock_gettime(time.CLOCK_BOOTTIME)
    boot.begin(Phase.KERNEL, at=booted_at)
    boot.end(Phase.KERNEL, at=max(booted_at, user_data_started_at))
    boot.begin(Phase.USER_DATA, at=user_data_started_at)
    boot.end(Phase.USER_DATA, at=max(now, user_data_started_at))


def critical_path(times: list[PhaseTime], *, now: float) -> dict[str, float]:
    """Split the boot, from its first moment to its last, into seconds by what it waited for.

    A moment belongs to the phase that then ran and is not a fetch; where none ran, to `fetch`, which is also
    what lies between two phases. The parts add up to the whole.
    """
    path: dict[str, float] = {}
    if not times:
        return path
    reached = times[0].started_at
    for each in sorted((t for t in times if t.phase not in FETCHES), key=lambda t: t.started_at):
        end = now if each.ended_at is None else each.ended_at
        if each.started_at > reached:
            path[FETCH] = path.get(FETCH, 0.0) + each.started_at - reached
            reached = each.started_at
        if end > reached:
            path[each.phase.value] = end - reached
            reached = end
    last_fetch = max((now if t.ended_at is None else t.ended_at) for t in times)
    if last_fetch > reached:
        path[FETCH] = path.get(FETCH, 0.0) + last_fetch - reached
    return path
