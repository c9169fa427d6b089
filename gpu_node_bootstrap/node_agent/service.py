"""The node's state as its engine and its boot change it: in service, on the way there, or never again."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .boot import BootRecord, Phase, PhaseTime, begin_before_agent, stall
from .engine_life import OnGiveUp
from .hook import HookAnswer, HookResult, HookView
from .log import Log
from .reports import Reporter
from .restarts import Failure
from .settings import Settings
from .state import NodeState, StateMachine


class Service:
    """Holds state and boot, and says what becomes of them: in the log, as metrics, to the control plane."""

    def __init__(self, settings: Settings, *, reporter: Reporter, log: Log) -> None:
        self._settings = settings
        self._reporter = reporter
        self._log = log
        self.started_at = time.time()
        self._limit_from = time.monotonic()
        self.states = StateMachine()
        self.boot = BootRecord(on_end=self._say_ended)

    def begin_boot(self) -> None:
        """Record what the boot has behind it."""
        begin_before_agent(
            self.boot,
            booted_at=self._settings.booted_at,
            user_data_started_at=self._settings.user_data_started_at,
            now=self.started_at,
        )

    def engine_starts(self) -> None:
        """Say so, in whichever state the node waits for its engine."""
        state = self.states.state
        if state in (NodeState.STARTING, NodeState.RECOVERING):
            self.states.move(state, "the engine is starting")

    def engine_ready(self) -> bool:
        """Take the node into service, unless it has left it for good meanwhile."""
        before = self.states.move(NodeState.READY, "the engine answered a completion")
        if before is NodeState.STARTING:
            self.boot.begin(Phase.IN_SERVICE)
            self._log.info("ready", start_seconds=round(time.time() - self.started_at, 3))
        elif before is NodeState.RECOVERING:
            self._log.info("recovered")
        return before is not None

    def engine_failed(self, failure: Failure, *, restarts: int, pause_seconds: float) -> bool:
        """Leave service until the engine is ready again; a drain that has begun sees to its end itself."""
        before = self.states.state
        booting = before is NodeState.STARTING
        if before is NodeState.READY:
            # Before the state says so: whoever watches it measures from here.
            self._limit_from = time.monotonic()
        reason = f"{failure.reason}; it is started again in {pause_seconds:g} s"
        if self.states.move(NodeState.STARTING if booting else NodeState.RECOVERING, reason) is None:
            return False
        cause = failure.cause.value
        self._log.error("engine_failed", reason=failure.reason, cause=cause, restarts=restarts, final=False)
        self._reporter.engine_failed(reason=failure.reason, restarts=restarts, final=False)
        return True

    def leave(self, reason: str) -> bool:
        """Drain from now on; return whether the engine had been ready."""
        return self.states.move(NodeState.DRAINING, reason) is NodeState.READY

    def watch_boot(self, hook: HookView, *, give_up: OnGiveUp) -> None:
        """See a boot or a recovery that stalls to its end, and a boot that the group has ended to its own."""
        state = self.states.state
        if state is NodeState.STARTING:
            stalled = stall(
                self.boot.taken(),
                self._settings.phase_limits,
                start_limit_seconds=self._settings.start_limit_seconds,
                waited_seconds=time.monotonic() - self._limit_from,
            )
            if stalled is not None:
                give_up(stalled.reason, phase=stalled.phase)
        elif state is NodeState.RECOVERING:
            limit = self._settings.start_limit_seconds
            if time.monotonic() - self._limit_from > limit:
                give_up(f"the engine was not ready again within {limit:g} s")
        elif state is NodeState.READY and in_service(hook):
            self._end_boot(hook)

    def _end_boot(self, hook: HookView) -> None:
        if not any(each.phase is Phase.IN_SERVICE for each in self.boot.running()):
            return
        self.boot.end(Phase.IN_SERVICE, at=hook.completed_at, hook=hook.result.value)
        now, boot, times = time.time(), self.boot.to_json(), self.boot.times()
        self._log.info("boot_ended", boot=boot)
        metrics = phase_metrics(times, now=now)
        if times[0].phase is Phase.KERNEL:
            # Of a boot whose beginning nobody knows, there is no whole to measure.
            metrics["boot.seconds"] = ("Seconds", round(now - times[0].started_at, 3))
        self._log.metrics(metrics)
        self._reporter.boot_ended(boot)

    def _say_ended(self, ended: PhaseTime) -> None:
        took = round(ended.seconds(ended.started_at), 3)
        self._log.info("phase_ended", phase=ended.phase.value, seconds=took, **ended.detail)


def phase_metrics(times: Sequence[PhaseTime], *, now: float) -> dict[str, tuple[str, float]]:
    """Return each phase's seconds as metrics: of one that runs, those that it has taken up to now."""
    return {f"boot.{each.phase.value}.seconds": ("Seconds", round(each.seconds(now), 3)) for each in times}


def in_service(hook: HookView) -> bool:
    """Return whether the group has taken a ready node into service, as far as its launch hook tells."""
    if hook.result is HookResult.COMPLETED:
        return hook.answer is HookAnswer.CONTINUE
    return hook.result in (HookResult.NO_HOOK, HookResult.NOT_WAITING)
