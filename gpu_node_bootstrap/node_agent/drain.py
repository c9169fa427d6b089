"""What a drain does next, and what it came to: decisions only, with time passed in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .times import format_utc
from .vllm_api import Load

IDLE_READINGS = 2
"""vLLM's gauges lag behind a request that has just arrived; two readings in a row do not."""
STOP_SECONDS = 30.0
"""An idle engine ends 2-4 s after SIGTERM, on a starved machine later; after this long it hangs."""


class Trigger(str, Enum):
    """Who asked for the drain first."""

    COMMAND = "command"
    IMDS = "imds"
    SIGNAL = "signal"


class EngineExit(str, Enum):
    """How the engine ended."""

    GRACEFUL = "graceful"
    KILLED = "killed"
    ALREADY_STOPPED = "already_stopped"


class DrainResult(str, Enum):
    """Whether every request was answered."""

    DRAINED = "drained"
    CUT = "cut"


class Step(Enum):
    """The next thing to do."""

    WAIT = "wait"
    TERMINATE = "terminate"
    KILL = "kill"
    FINISH = "finish"


@dataclass(frozen=True)
class Situation:
    """What is known in the middle of a drain. Times are seconds of one monotonic clock."""

    now: float
    began_at: float
    give_up_at: float
    settle_seconds: float
    checked_at: float | None
    """The load balancer's last health check: what it checks, it has registered. None: it never asked."""
    was_ready: bool
    """The engine had answered a completion before the drain began."""
    alive: bool
    load: Load | None
    """The last reading; None when the engine did not answer it."""
    idle_readings: int
    """Readings in a row, up to the last, that found no request."""
    terminated_at: float | None


def next_step(situation: Situation) -> Step:
    """Decide what to do now."""
    if not situation.alive:
        return Step.FINISH
    # An engine that still starts serves nobody, and SIGTERM can deadlock it.
    if situation.now >= situation.give_up_at or not situation.was_ready:
        return Step.KILL
    if situation.terminated_at is not None:
        busy = situation.load is not None and situation.load.in_flight > 0
        hangs = situation.now - situation.terminated_at >= STOP_SECONDS and not busy
        return Step.KILL if hangs else Step.WAIT
    quiet_since = max(situation.began_at, situation.checked_at or situation.began_at)
    settled = situation.now - quiet_since >= situation.settle_seconds
    return Step.TERMINATE if settled and situation.idle_readings >= IDLE_READINGS else Step.WAIT


@dataclass(frozen=True)
class DrainOutcome:
    """What a drain came to. Times are epoch seconds; counts are None where the engine never gave one."""

    instance_id: str | None
    trigger: Trigger
    started_at: float
    finished_at: float
    deadline: float
    in_flight_at_start: int | None
    finished: int | None
    cut: int | None
    engine_exit: EngineExit

    @property
    def result(self) -> DrainResult:
        """`cut` also where nobody knows how many requests an engine took along."""
        return DrainResult.DRAINED if self.cut == 0 else DrainResult.CUT

    def to_json(self) -> dict[str, object]:
        """Return the outcome as the incident records it."""
        return {
            "instance_id": self.instance_id,
            "trigger": self.trigger.value,
            "started_at": format_utc(self.started_at),
            "finished_at": format_utc(self.finished_at),
            "seconds": round(self.finished_at - self.started_at, 3),
            "deadline": format_utc(self.deadline),
            "in_flight_at_start": self.in_flight_at_start,
            "finished": self.finished,
            "cut": self.cut,
            "engine_exit": self.engine_exit.value,
            "outcome": self.result.value,
        }


def how_it_ended(*, alive_at_start: bool, terminated: bool, killed: bool) -> EngineExit:
    """Return how the engine of a finished drain ended; one that nobody asked to had stopped by itself."""
    if not alive_at_start:
        return EngineExit.ALREADY_STOPPED
    if killed:
        return EngineExit.KILLED
    return EngineExit.GRACEFUL if terminated else EngineExit.ALREADY_STOPPED


class Tally:
    """Counts requests over a drain's readings."""

    def __init__(self, *, was_ready: bool) -> None:
        # An engine that has never been ready has nothing in flight, whatever it answers.
        self._none_possible = not was_ready
        self._first: Load | None = None
        self._last: Load | None = None
        self.latest: Load | None = None
        self.idle_readings = 0

    def add(self, load: Load | None) -> None:
        """Take a reading; None for one that was not answered."""
        self.latest = load
        idle = load is not None and load.in_flight == 0
        self.idle_readings = self.idle_readings + 1 if idle else 0
        if load is not None:
            self._first = self._first or load
            self._last = load

    @property
    def in_flight_at_start(self) -> int | None:
        """Requests at the first reading."""
        return self._count(None if self._first is None else self._first.in_flight)

    @property
    def in_flight(self) -> int | None:
        """Requests at the last reading that was answered."""
        return self._count(None if self._last is None else self._last.in_flight)

    @property
    def finished(self) -> int | None:
        """Requests answered between the first reading and the last."""
        if self._first is None or self._last is None:
            return self._count(None)
        return max(0, self._last.finished - self._first.finished)

    def answered_all(self) -> None:
        """Take it from the engine's own end that nothing is in flight: it ended by itself, with status 0."""
        if self._last is not None:
            answered = self._last.finished + self._last.in_flight
            self._last = self.latest = Load(running=0, waiting=0, finished=answered)

    def _count(self, value: int | None) -> int | None:
        return 0 if value is None and self._none_possible else value
