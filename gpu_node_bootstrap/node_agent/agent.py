"""The node agent: boots the node, says when it is ready, keeps its engine alive, takes it down in time."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from . import diagnosis
from .control import ControlServer
from .deadlines import own_deadline
from .drain import DrainOutcome, Trigger
from .drainer import Drainer
from .engine import Engine
from .engine_choice import make_engine
from .engine_life import EngineLife
from .errors import ControlError, EngineError
from .failure import FinalFailure
from .health_server import HealthServer, device_of, resolve_host
from .hook import HookAnswer, HookCompleter
from .imds import Imds, ImdsWatcher, SpotNotice
from .kernel_log import GpuFault, KernelLog
from .log import Log
from .outlets import Outlets
from .preparation import Preparation
from .service import Service
from .settings import AUTO_HOST, Settings
from .state import NodeState, assert_never
from .times import format_utc
from .vllm_api import EngineApi

SUPERVISE_SECONDS = 0.1
FAREWELL_SECONDS = 1.0
FAILURE_SECONDS = 12.0
"""For the diagnosis of a node that failed just before its end."""


class Agent:
    """Wires the parts; `run` is the whole life of a node."""

    def __init__(self, settings: Settings, *, log: Log, engine: Callable[[], Engine] | None = None) -> None:
        """Bind the ports. Raises OSError or ControlError when one is taken. `engine` makes the engines."""
        self._settings = settings
        self._log = log
        self._instance_id: str | None = None
        self._terminate_asked = threading.Event()
        imds = Imds(settings.imds_endpoint)
        hosts = {settings.engine_host, settings.health_host}
        address = resolve_host(AUTO_HOST, imds, log=log) if AUTO_HOST in hosts else ""
        self._api = EngineApi(
            host=address if settings.engine_host == AUTO_HOST else settings.engine_host,
            port=settings.engine_port,
            served_model_name=settings.served_model_name,
        )
        self._outlets = Outlets(settings, instance_id=self._own_id, log=log)
        self._service = Service(settings, reporter=self._outlets.reporter, log=log)
        self._life = EngineLife(
            settings,
            preparation=Preparation(settings, boot=self._service.boot, log=log),
            make_engine=engine or (lambda: make_engine(settings, log)),
            api=self._api,
            boot=self._service.boot,
            events=self._service,
            log=log,
        )
        self._kernel_log = KernelLog(settings.kernel_log, on_fault=self._take_gpu_fault, log=log)
        self._failure = self._make_failure()
        self._drainer = self._make_drainer()
        self._hook = HookCompleter(settings, instance_id=self._own_id, answer=self._hook_answer, log=log)
        self._watcher = ImdsWatcher(
            imds, on_instance_id=self._know_instance_id, on_notice=self._take_notice, log=log
        )
        self._control = ControlServer(settings.socket, self._command)
        automatic = settings.health_host == AUTO_HOST
        self._health = HealthServer(
            host=address if automatic else settings.health_host,
            port=settings.health_port,
            view=self._service.states.view,
            device=device_of(address) if automatic else None,
        )

    def _make_failure(self) -> FinalFailure:
        return FinalFailure(
            service=self._service,
            life=self._life,
            parts={
                "boot": self._service.boot.to_json,
                "engine": self._life.describe,
                "engine_log": lambda: diagnosis.bounded(self._life.log_tail()),
                "kernel_log": lambda: diagnosis.bounded(self._kernel_log.last_lines()),
                "disk": lambda: diagnosis.disk(self._settings.container_cache),
                "gpus": diagnosis.gpus,
            },
            outlets=self._outlets,
            log=self._log,
        )

    def _make_drainer(self) -> Drainer:
        return Drainer(
            life=self._life,
            api=self._api,
            settings=self._settings,
            checked_at=lambda: self._health.checked_at,
            on_begin=self._leave_service,
            on_end=self._left,
            instance_id=self._own_id,
            log=self._log,
        )

    def run(self) -> int:
        """Live until told to end; a node that failed lives on, and answers for itself."""
        signal.signal(signal.SIGTERM, lambda _number, _frame: self._terminate_asked.set())
        signal.signal(signal.SIGINT, lambda _number, _frame: self._terminate_asked.set())
        self._log.info("agent_started", engine=self._settings.engine.value)
        self._service.begin_boot()
        for part in (self._health, self._control, self._watcher, self._kernel_log, self._hook, self._outlets):
            part.start()
        try:
            self._life.start(on_give_up=self._failure.declare)
            self._supervise()
        finally:
            self._end()
        return 0

    def status(self) -> dict[str, object]:
        """Return what `spot-failover-node status` shows."""
        view, started_at = self._service.states.view(), self._service.started_at
        ready_at = self._life.ready_at
        return {
            "instance_id": self._instance_id,
            "fleet": self._settings.fleet,
            "state": view.state.value,
            "reason": view.reason,
            "since": format_utc(view.since),
            "agent_started_at": format_utc(started_at),
            "boot": self._service.boot.to_json(),
            "engine": {
                **self._life.describe(),
                "ready_at": None if ready_at is None else format_utc(ready_at),
                "start_seconds": None if ready_at is None else round(ready_at - started_at, 3),
            },
            "hook": self._hook.view.to_json(),
            "replacement": self._outlets.replacement.view,
            "drain": self._drainer.describe(),
            "diagnosis": self._failure.diagnosis,
        }

    def _supervise(self) -> None:
        while not self._terminate_asked.wait(SUPERVISE_SECONDS):
            self._service.watch_boot(self._hook.view, give_up=self._failure.declare)
            self._failure.ask_for_replacement(self._hook.view)
        self._drainer.request(Trigger.SIGNAL, time.time() + self._settings.signal_drain_seconds)
        self._drainer.wait()

    def _hook_answer(self) -> HookAnswer | None:
        """Return what to tell a group that waits for this launch, None while it is not known."""
        state = self._service.states.state
        if state is NodeState.STARTING or state is NodeState.RECOVERING:
            return None
        if state is NodeState.READY:
            return HookAnswer.CONTINUE
        if state is NodeState.FAILED:
            return HookAnswer.ABANDON
        if state is NodeState.DRAINING or state is NodeState.DRAINED:
            # A node stopped by hand during its start may be started again; one with a notice will not.
            return None if self._drainer.trigger is Trigger.SIGNAL else HookAnswer.ABANDON
        return assert_never(state)

    def _leave_service(self, reason: str) -> bool:
        was_ready = self._service.leave(reason)
        self._life.close()
        return was_ready

    def _left(self, outcome: DrainOutcome) -> None:
        self._service.states.move(NodeState.DRAINED, f"drain ended: {outcome.result.value}")
        self._outlets.reporter.drained(outcome.to_json())

    def _own_id(self) -> str | None:
        return self._instance_id

    def _know_instance_id(self, instance_id: str) -> None:
        self._instance_id = instance_id
        self._log.bind(instance_id=instance_id)

    def _take_notice(self, notice: SpotNotice) -> None:
        if self._drainer.request(Trigger.IMDS, notice.deadline):
            self._log.info("notice", action=notice.action, deadline=format_utc(notice.deadline))

    def _take_gpu_fault(self, fault: GpuFault) -> None:
        if fault.lost:
            self._failure.declare(fault.reason)

    def _command(self, request: Mapping[str, Any]) -> Mapping[str, object]:
        asked = request.get("do")
        if asked == "status":
            return {"status": self.status()}
        if asked == "diagnose":
            return {"diagnose": {"status": self.status(), "now": self._failure.diagnose()}}
        if asked == "drain":
            return {"outcome": self._drain(request.get("deadlines")).to_json()}
        raise ControlError(f"unknown request {asked!r}")

    def _drain(self, deadlines: object) -> DrainOutcome:
        if deadlines is None:
            deadline = time.time() + self._settings.signal_drain_seconds
        else:
            deadline = own_deadline(str(deadlines), self._instance_id)
        self._drainer.request(Trigger.COMMAND, deadline)
        outcome = self._drainer.wait()
        assert outcome is not None
        return outcome

    def _end(self) -> None:
        self._watcher.stop()
        self._kernel_log.stop()
        self._failure.wait(FAILURE_SECONDS)
        try:
            self._life.kill()
        except EngineError as err:
            self._log.error("engine_outlived_kill", error=str(err))
        self._hook.give_up()
        self._control.close(grace_seconds=FAREWELL_SECONDS)
        self._health.close()
        self._log.info("agent_ended", state=self._service.states.state.value)
        self._outlets.close()
