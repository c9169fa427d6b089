"""The engine's whole life: prepared, started, watched, and started again when it fails, up to a limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from .boot import BootRecord, Phase
from .diagnosis import collect
from .engine import Engine
from .errors import EngineError, PreparationError
from .liveness import Liveness
from .log import Log
from .preparation import Preparation, Prepared
from .restarts import Cause, Failure, GiveUp, Restart, after_failure
from .settings import Settings
from .vllm_api import EngineApi

POLL_SECONDS = 0.1
TAIL_LINES = 50


class OnGiveUp(Protocol):
    """What is told that no engine will be started again."""

    def __call__(self, reason: str, *, phase: Phase | None = None) -> object:
        """Take the reason, and the phase of the boot that it came from where that is known."""


class LifeEvents(Protocol):
    """What the owner of the node's state is told, on the life's own thread."""

    def engine_starts(self) -> None:
        """The engine's process is about to be started, for the first time or again."""

    def engine_ready(self) -> bool:
        """The engine answered a completion; return whether the node is ready now."""

    def engine_failed(self, failure: Failure, *, restarts: int, pause_seconds: float) -> bool:
        """The engine failed and would be started again after this pause; return whether it may."""


class EngineLife:
    """Runs one engine after another in a thread of its own, until closed. Any thread may call the rest."""

    def __init__(
        self,
        settings: Settings,
        *,
        preparation: Preparation,
        make_engine: Callable[[], Engine],
        api: EngineApi,
        boot: BootRecord,
        events: LifeEvents,
        log: Log,
    ) -> None:
        self._settings = settings
        self._preparation = preparation
        self._make_engine = make_engine
        self._api = api
        self._boot = boot
        self._events = events
        self._log = log
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._engine = make_engine()
        self._started = False
        self._liveness: Liveness | None = None
        self._failures = 0
        self._serving_since: float | None = None
        self._tail: list[str] = []
        self.ready_at: float | None = None
        """When the engine was ready for the first time (epoch seconds)."""
        self.restarts = 0
        self.last_failure: Failure | None = None

    def start(self, *, on_give_up: OnGiveUp) -> None:
        """Prepare, and start the engine as soon as that is done."""
        threading.Thread(target=self._run, args=(on_give_up,), name="engine-life", daemon=True).start()

    def alive(self) -> bool:
        """Return whether there is an engine that has been started and has not ended."""
        with self._lock:
            return self._started and self._engine.exit_status() is None

    def exit_status(self) -> int | None:
        """Return the status of the engine that ended last, None while one lives or none was started."""
        with self._lock:
            return self._engine.exit_status() if self._started else None

    def terminate(self) -> None:
        """Ask the engine to end by SIGTERM."""
        self._engine.terminate()

    def close(self) -> None:
        """Start no engine from now on, and watch the present one no more."""
        with self._lock:
            self._closed.set()
            liveness = self._liveness
        if liveness is not None:
            liveness.stop()

    def hold_probes(self, *, grace_seconds: float) -> None:
        """Send no more probes; return when none is on its way, or after this time."""
        with self._lock:
            liveness = self._liveness
        if liveness is not None:
            liveness.stop(grace_seconds=grace_seconds)

    def kill(self) -> None:
        """Close, and leave nothing of engine and preparation. Raises EngineError where something survives."""
        self.close()
        self._preparation.stop()
        if self._started:
            self._engine.kill()

    def keep_log(self) -> None:
        """Keep the end of the engine's log: a killed engine may leave none."""
        if self._started:
            self._tail = self._engine.log_tail(TAIL_LINES) or self._tail

    def log_tail(self) -> list[str]:
        """Return the last lines of the engine's log, or those that were kept of one that is gone."""
        self.keep_log()
        return list(self._tail)

    def describe(self) -> dict[str, object]:
        """Return what `/status` shows of the engine."""
        exit_status = self.exit_status()
        return {
            "kind": self._engine.kind.value,
            **self._engine.describe(),
            "exit_status": exit_status,
            "restarts": self.restarts,
            "last_failure": None if self.last_failure is None else self.last_failure.to_json(),
        }

    def _run(self, on_give_up: OnGiveUp) -> None:
        try:
            prepared = self._preparation.run()
            self._api.use_key(prepared.api_key)
            given_up = self._live(prepared)
            if given_up is not None:
                on_give_up(given_up)
        except PreparationError as err:
            if not self._closed.is_set():
                on_give_up(err.reason, phase=err.phase)
        except Exception as err:
            # A mistake of the agent's own must not leave a node that starts for ever.
            self._log.error("engine_life_failed", error=repr(err))
            on_give_up(f"the agent failed: {err!r}")

    def _live(self, prepared: Prepared) -> str | None:
        """Run one engine after another; return why there is not another one, None when it was told so."""
        self._boot.begin(Phase.ENGINE)
        while not self._closed.is_set():
            failure = self._one_engine(prepared)
            if failure is None:
                return None
            decision = self._judge(failure)
            if isinstance(decision, GiveUp):
                return self._told(failure, decision)
            if not self._start_again_after(failure, decision.pause_seconds):
                return None
            prepared = self._refreshed(prepared)
        return None

    def _one_engine(self, prepared: Prepared) -> Failure | None:
        """Start an engine and see it through to its failure; None when the life was closed."""
        self._serving_since = None
        self._events.engine_starts()
        try:
            with self._lock:
                if self._closed.is_set():
                    return None
                self._engine, self._started = self._make_engine(), False
                self._engine.start(prepared)
                self._started = True
        except EngineError as err:
            return Failure(Cause.NOT_STARTED, str(err), time.time())
        failure = self._until_ready()
        return self._until_it_fails() if failure is None else failure

    def _until_ready(self) -> Failure | None:
        answers = False
        give_up_at = time.monotonic() + self._start_seconds()
        while not self._closed.is_set():
            failure = self._crash()
            if failure is not None:
                return failure
            if not answers and self._api.answers():
                answers = True
                self._boot.end(Phase.ENGINE)
                self._boot.begin(Phase.WARM_UP)
            if answers and self._api.completes():
                self._begin_service()
                return None
            # A boot is given up by whoever watches its phases.
            if self.ready_at is not None and time.monotonic() > give_up_at:
                reason = f"the engine was not ready again within {self._start_seconds():g} s"
                return Failure(Cause.NOT_READY, reason, time.time())
            self._closed.wait(POLL_SECONDS)
        return None

    def _begin_service(self) -> None:
        now = time.time()
        self._boot.end(Phase.WARM_UP, at=now)
        liveness = Liveness(
            self._api,
            probe_seconds=self._settings.probe_seconds,
            hang_seconds=self._settings.hang_seconds,
            log=self._log,
        )
        with self._lock:
            self._liveness = liveness
        self._serving_since = time.monotonic()
        first, self.ready_at = self.ready_at is None, self.ready_at or now
        if not self._events.engine_ready():
            self.close()
            return
        liveness.start()
        if first:
            threading.Thread(
                target=self._preparation.save_compile_cache, name="compile-cache", daemon=True
            ).start()

    def _until_it_fails(self) -> Failure | None:
        liveness = self._liveness
        while liveness is not None and not self._closed.is_set():
            failure = self._crash()
            if failure is None and liveness.hung.is_set():
                reason = f"the engine is alive but answered nothing for {liveness.silent_seconds:.0f} s"
                failure = Failure(Cause.HUNG, reason, time.time())
            if failure is not None:
                liveness.stop()
                return failure
            self._closed.wait(POLL_SECONDS)
        return None

    def _crash(self) -> Failure | None:
        if self._engine.exit_status() is None or self._closed.is_set():
            return None
        return Failure(Cause.CRASHED, self._engine.end_reason(), time.time())

    def _judge(self, failure: Failure) -> Restart | GiveUp:
        self.last_failure = failure
        since = self._serving_since
        decision = after_failure(
            self._failures,
            served_seconds=0.0 if since is None else time.monotonic() - since,
            limit=self._settings.restart_limit,
            window_seconds=self._settings.restart_window_seconds,
        )
        self._failures = decision.failures
        return decision

    def _told(self, failure: Failure, decision: GiveUp) -> str:
        if decision.failures < 2:
            return failure.reason
        window = self._settings.restart_window_seconds
        return f"{failure.reason}; that was failure {decision.failures}, none after {window:g} s of service"

    def _start_again_after(self, failure: Failure, pause_seconds: float) -> bool:
        """Clean up, and wait until the engine is to be started again; return False when it may not be."""
        if not self._events.engine_failed(failure, restarts=self.restarts, pause_seconds=pause_seconds):
            return False
        self._clear_away()
        if self._closed.wait(pause_seconds):
            return False
        self.restarts += 1
        return True

    def _clear_away(self) -> None:
        collect({"engine_log": self.keep_log})
        left = self._engine.describe()
        try:
            self._engine.kill()
        except EngineError as err:
            self._log.error("engine_outlived_kill", error=str(err))
            return
        self._log.info("engine_cleared_away", left=left)

    def _refreshed(self, prepared: Prepared) -> Prepared:
        try:
            return self._preparation.refresh(prepared)
        except PreparationError as err:
            # What was prepared before may still do; if not, the engine says so.
            self._log.warning("preparation_not_refreshed", phase=err.phase.value, error=err.reason)
            return prepared

    def _start_seconds(self) -> float:
        limits: Mapping[Phase, float] = self._settings.phase_limits
        return limits[Phase.ENGINE] + limits[Phase.WARM_UP]
