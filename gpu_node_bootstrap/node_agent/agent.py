"""The node agent: brings one engine up, says when it is ready, and takes it down in time."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping
from typing import Any

from .control import ControlServer
from .deadlines import own_deadline
from .drain import DrainOutcome, Trigger
from .drainer import Drainer
from .engine import Engine
from .engine_choice import make_engine
from .errors import ControlError, EngineError
from .health_server import HealthServer
from .hook import HookAnswer, HookCompleter
from .imds import Imds, ImdsWatcher, SpotNotice
from .log import Log
from .settings import Settings
from .state import NodeState, StateMachine
from .times import format_utc
from .vllm_api import EngineApi

READY_POLL_SECONDS = 0.1
SUPERVISE_SECONDS = 0.1
FAREWELL_SECONDS = 1.0


class Agent:
    """Wires the parts; `run` is the whole life of a node."""

    def __init__(self, settings: Settings, *, log: Log, engine: Engine | None = None) -> None:
        """Bind the ports. Raises OSError or ControlError when one is taken."""
        self._settings = settings
        self._log = log
        self._started_at = time.time()
        self._ready_at: float | None = None
        self._instance_id: str | None = None
        self._terminate_asked = threading.Event()
        self._states = StateMachine()
        self._engine = engine or make_engine(settings, log)
        self._api = EngineApi(
            host=settings.engine_host, port=settings.engine_port, served_model_name=settings.served_model_name
        )
        self._drainer = Drainer(
            engine=self._engine,
            api=self._api,
            settle_seconds=settings.settle_seconds,
            margin_seconds=settings.deadline_margin_seconds,
            on_begin=self._leave_service,
            on_end=self._left,
            instance_id=lambda: self._instance_id,
            log=log,
        )
        self._hook = HookCompleter(
            settings,
            instance_id=lambda: self._instance_id,
            answer=self._hook_answer,
            log=log,
        )
        self._watcher = ImdsWatcher(
            Imds(settings.imds_endpoint),
            on_instance_id=self._know_instance_id,
            on_notice=self._take_notice,
            log=log,
        )
        self._control = ControlServer(settings.socket, self._command)
        self._health = HealthServer(host=settings.health_host, port=settings.health_port, status=self.status)

    def run(self) -> int:
        """Live until told to end; return the process's exit status, not 0 when the engine failed."""
        signal.signal(signal.SIGTERM, lambda _number, _frame: self._terminate_asked.set())
        signal.signal(signal.SIGINT, lambda _number, _frame: self._terminate_asked.set())
        self._log.info("agent_started", engine=self._engine.kind.value)
        self._health.start()
        self._control.start()
        self._watcher.start()
        self._hook.start()
        try:
            self._engine.start()
            threading.Thread(target=self._wait_until_ready, name="readiness", daemon=True).start()
            return self._supervise()
        except EngineError as err:
            self._fail(str(err))
            return 1
        finally:
            self._end()

    def status(self) -> dict[str, object]:
        """Return what `/status` shows."""
        view = self._states.view()
        start_seconds = None if self._ready_at is None else round(self._ready_at - self._started_at, 3)
        return {
            "instance_id": self._instance_id,
            "fleet": self._settings.fleet,
            "state": view.state.value,
            "reason": view.reason,
            "since": format_utc(view.since),
            "agent_started_at": format_utc(self._started_at),
            "engine": {
                "kind": self._engine.kind.value,
                **self._engine.describe(),
                "exit_status": self._engine.exit_status(),
                "ready_at": None if self._ready_at is None else format_utc(self._ready_at),
                "start_seconds": start_seconds,
            },
            "hook": self._hook.view.to_json(),
            "drain": self._drainer.describe(),
        }

    def _supervise(self) -> int:
        limit = time.monotonic() + self._settings.start_limit_seconds
        while True:
            if self._terminate_asked.is_set():
                self._drain_for_signal()
                return 0
            state, exit_status = self._states.state, self._engine.exit_status()
            if state in (NodeState.STARTING, NodeState.READY) and exit_status is not None:
                # A drain that has just begun accounts for the engine's end itself.
                if self._fail(f"the engine ended by itself with status {exit_status}"):
                    return 1
            elif state is NodeState.STARTING and time.monotonic() > limit:
                self._fail(f"the engine was not ready within {self._settings.start_limit_seconds:g} s")
                return 1
            self._terminate_asked.wait(SUPERVISE_SECONDS)

    def _drain_for_signal(self) -> None:
        self._drainer.request(Trigger.SIGNAL, time.time() + self._settings.signal_drain_seconds)
        self._drainer.wait()

    def _wait_until_ready(self) -> None:
        while self._states.state is NodeState.STARTING:
            if not self._api.completes():
                time.sleep(READY_POLL_SECONDS)
                continue
            self._ready_at = time.time()
            if self._states.move(NodeState.READY, "the engine answered a completion") is None:
                return
            self._log.info("ready", start_seconds=round(self._ready_at - self._started_at, 3))

    def _hook_answer(self) -> HookAnswer | None:
        """Return what to tell a group that waits for this launch, None while it is not known."""
        state = self._states.state
        if state is NodeState.STARTING:
            return None
        if state is NodeState.READY:
            return HookAnswer.CONTINUE
        # A node that is stopped by hand during its start may be started again; one with a notice will not.
        by_hand = self._drainer.trigger is Trigger.SIGNAL
        return None if by_hand else HookAnswer.ABANDON

    def _leave_service(self, reason: str) -> bool:
        return self._states.move(NodeState.DRAINING, reason) is NodeState.READY

    def _left(self, outcome: DrainOutcome) -> None:
        self._states.move(NodeState.DRAINED, f"drain ended: {outcome.result.value}")

    def _fail(self, reason: str) -> bool:
        failed = self._states.move(NodeState.FAILED, reason) is not None
        if failed:
            self._log.error("engine_failed", reason=reason)
        return failed

    def _know_instance_id(self, instance_id: str) -> None:
        self._instance_id = instance_id
        self._log.bind(instance_id=instance_id)

    def _take_notice(self, notice: SpotNotice) -> None:
        if self._drainer.request(Trigger.IMDS, notice.deadline):
            self._log.info("notice", action=notice.action, deadline=format_utc(notice.deadline))

    def _command(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        if request.get("do") == "status":
            return {"status": self.status()}
        if request.get("do") != "drain":
            raise ControlError(f"unknown request {request.get('do')!r}")
        deadlines = request.get("deadlines")
        if deadlines is None:
            deadline = time.time() + self._settings.signal_drain_seconds
        else:
            deadline = own_deadline(str(deadlines), self._instance_id)
        self._drainer.request(Trigger.COMMAND, deadline)
        outcome = self._drainer.wait()
        assert outcome is not None
        return {"outcome": outcome.to_json()}

    def _end(self) -> None:
        self._watcher.stop()
        try:
            self._engine.kill()
        except EngineError as err:
            self._log.error("engine_outlived_kill", error=str(err))
        self._hook.give_up()
        self._control.close(grace_seconds=FAREWELL_SECONDS)
        self._health.close()
        self._log.info("agent_ended", state=self._states.state.value)
