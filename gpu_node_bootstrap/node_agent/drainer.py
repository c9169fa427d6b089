"""Carries a drain out: once, whoever asks first, and to an end before the deadline come what may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from .drain import DrainOutcome, EngineExit, Situation, Step, Tally, Trigger, how_it_ended, next_step
from .engine_life import EngineLife
from .errors import EngineAnswerError
from .log import Log
from .settings import Settings
from .state import assert_never
from .times import format_utc
from .vllm_api import EngineApi, Load

READING_SECONDS = 0.5
PROBE_SECONDS = 1.0
"""How long the first reading waits for the agent's own probe, which would count as a request."""


@dataclass(frozen=True)
class Request:
    """A drain as asked for. Times are epoch seconds."""

    trigger: Trigger
    started_at: float
    deadline: float


class Drainer:
    """The node's one drain.

    Two threads run it: one follows the engine, and one only waits for the deadline and then kills, so that no
    answer of the engine, late or never, can carry the drain past it.
    """

    def __init__(
        self,
        *,
        life: EngineLife,
        api: EngineApi,
        settings: Settings,
        checked_at: Callable[[], float | None],
        on_begin: Callable[[str], bool],
        on_end: Callable[[DrainOutcome], None],
        instance_id: Callable[[], str | None],
        log: Log,
    ) -> None:
        """`on_begin` makes the node unready, and returns whether the engine had been ready.

        `checked_at` is when (monotonic) the load balancer last asked after the node's health.
        """
        self._life = life
        self._api = api
        self._settle_seconds = settings.settle_seconds
        self._margin_seconds = settings.deadline_margin_seconds
        self._checked_at = checked_at
        self._on_begin = on_begin
        self._on_end = on_end
        self._instance_id = instance_id
        self._log = log
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._request: Request | None = None
        self._began_at = 0.0
        self._give_up_at = 0.0
        self._kill_asked = threading.Event()
        self._kill_ended = threading.Event()
        self._nothing_left = False
        self._terminated_at: float | None = None
        self._tally: Tally | None = None
        self._outcome: DrainOutcome | None = None

    def request(self, trigger: Trigger, deadline: float) -> bool:
        """Begin the drain, or join the one that runs; return whether this call began it.

        A deadline earlier than the known one counts from now on; a later one changes nothing.
        """
        now = time.time()
        with self._changed:
            if self._request is None:
                was_ready = self._on_begin(f"drain asked for by {trigger.value}")
                # What an engine took along before the drain began is not for the drain to count.
                alive = self._life.alive()
                serving = was_ready and alive
                self._request = Request(trigger, now, deadline)
                self._began_at = time.monotonic()
                self._give_up_at = self._give_up_for(deadline, now)
                self._tally = tally = Tally(was_ready=serving)
                self._log.info("drain_started", trigger=trigger.value, deadline=format_utc(deadline))
                for target in (lambda: self._follow(serving, alive, tally), self._watch_deadline):
                    threading.Thread(target=target, name="drain", daemon=True).start()
                return True
            if deadline < self._request.deadline and not self._ended.is_set():
                self._request = Request(self._request.trigger, self._request.started_at, deadline)
                self._give_up_at = min(self._give_up_at, self._give_up_for(deadline, now))
                self._log.info("drain_tightened", trigger=trigger.value, deadline=format_utc(deadline))
                self._changed.notify_all()
            return False

    @property
    def trigger(self) -> Trigger | None:
        """Who asked first, None before anybody has."""
        return None if self._request is None else self._request.trigger

    def wait(self, timeout_seconds: float | None = None) -> DrainOutcome | None:
        """Return the outcome once there is one, None when the time runs out first."""
        self._ended.wait(timeout_seconds)
        return self._outcome

    def describe(self) -> dict[str, object] | None:
        """Return the drain as `/status` shows it, None before there is one."""
        request, tally = self._request, self._tally
        if request is None or tally is None:
            return None
        return {
            "trigger": request.trigger.value,
            "started_at": format_utc(request.started_at),
            "deadline": format_utc(request.deadline),
            "in_flight_at_start": tally.in_flight_at_start,
            "in_flight": tally.in_flight,
            "stopping": self._terminated_at is not None or self._kill_asked.is_set(),
            "outcome": None if self._outcome is None else self._outcome.to_json(),
        }

    def _give_up_for(self, deadline: float, now: float) -> float:
        # The wall clock may be set while the drain runs; what is left of the notice does not change with it.
        return time.monotonic() + (deadline - now) - self._margin_seconds

    def _follow(self, was_ready: bool, alive_at_start: bool, tally: Tally) -> None:
        try:
            self._life.hold_probes(grace_seconds=PROBE_SECONDS)
            self._until_it_ends(was_ready, tally)
        except Exception as err:
            # Whoever waits for the outcome must get one; the deadline's thread would come too late for that.
            self._log.error("drain_failed", error=repr(err))
            self._kill("the drain failed")
        if self._kill_asked.is_set():
            self._kill_ended.wait()
        self._finish(alive_at_start, tally)

    def _until_it_ends(self, was_ready: bool, tally: Tally) -> None:
        while not self._kill_asked.is_set():
            if was_ready:
                tally.add(self._read())
            step = next_step(self._situation(was_ready, tally))
            if step is Step.FINISH:
                return
            if step is Step.KILL:
                self._kill("deadline or hang" if was_ready else "the engine had not started")
            elif step is Step.TERMINATE:
                self._terminated_at = time.monotonic()
                self._life.terminate()
                self._log.info("engine_terminated")
            elif step is Step.WAIT:
                with self._changed:
                    self._changed.wait(READING_SECONDS)
            else:
                assert_never(step)

    def _read(self) -> Load | None:
        try:
            return self._api.load()
        except EngineAnswerError:
            return None

    def _situation(self, was_ready: bool, tally: Tally) -> Situation:
        return Situation(
            now=time.monotonic(),
            began_at=self._began_at,
            give_up_at=self._give_up_at,
            settle_seconds=self._settle_seconds,
            checked_at=self._checked_at(),
            was_ready=was_ready,
            alive=self._life.alive(),
            load=tally.latest,
            idle_readings=tally.idle_readings,
            terminated_at=self._terminated_at,
        )

    def _watch_deadline(self) -> None:
        with self._changed:
            while not self._ended.is_set():
                left = self._give_up_at - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
        if not self._ended.is_set():
            self._kill("deadline")

    def _kill(self, reason: str) -> None:
        self._kill_asked.set()
        self._log.info("engine_killed", reason=reason)
        self._end_everything()
        self._kill_ended.set()

    def _end_everything(self) -> None:
        try:
            self._life.kill()
            self._nothing_left = True
        except Exception as err:
            self._log.error("engine_outlived_kill", error=repr(err))

    def _finish(self, alive_at_start: bool, tally: Tally) -> None:
        request, terminated, killed = (
            self._request,
            self._terminated_at is not None,
            self._kill_asked.is_set(),
        )
        assert request is not None
        how = how_it_ended(alive_at_start=alive_at_start, terminated=terminated, killed=killed)
        if how is EngineExit.GRACEFUL and self._life.exit_status() == 0:
            tally.answered_all()
        # Also after a graceful end: cores can outlive the API server. Not twice: where docker hangs, a round
        # takes seconds of those that are left before the deadline.
        if not self._nothing_left:
            self._end_everything()
        self._outcome = outcome = DrainOutcome(
            instance_id=self._instance_id(),
            trigger=request.trigger,
            started_at=request.started_at,
            finished_at=time.time(),
            deadline=request.deadline,
            in_flight_at_start=tally.in_flight_at_start,
            finished=tally.finished,
            cut=tally.in_flight,
            engine_exit=how,
        )
        self._on_end(outcome)
        self._log.info("drain_finished", outcome=outcome.to_json())
        with self._changed:
            self._ended.set()
            self._changed.notify_all()
