"""The end of a node's service: unready at once, nothing left running, a diagnosis, a replacement."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from .boot import Phase
from .diagnosis import collect
from .engine_life import EngineLife
from .errors import EngineError
from .hook import HookAnswer, HookResult, HookView
from .log import Log
from .outlets import Outlets
from .service import Service, phase_metrics
from .state import NodeState, assert_never


def must_ask(hook: HookView) -> bool | None:
    """Return whether a failed node has to ask its group for a replacement, None while that is not known.

    An abandoned launch says it already. A group that waits for no hook takes the node for one in service.
    """
    if hook.result is HookResult.PENDING:
        return None
    if hook.result is HookResult.COMPLETED:
        return hook.answer is not HookAnswer.ABANDON
    if hook.result is HookResult.NO_HOOK or hook.result is HookResult.NOT_WAITING:
        return True
    return assert_never(hook.result)


class FinalFailure:
    """Happens once at most. Any thread may declare it; what it takes runs on a thread of its own."""

    def __init__(
        self,
        *,
        service: Service,
        life: EngineLife,
        parts: Mapping[str, Callable[[], object]],
        outlets: Outlets,
        log: Log,
    ) -> None:
        """`parts` of the diagnosis by name: each returns what JSON can hold, or raises."""
        self._states = service.states
        self._boot = service.boot
        self._life = life
        self._parts = parts
        self._reporter = outlets.reporter
        self._replacement = outlets.replacement
        self._log = log
        self._worker: threading.Thread | None = None
        self._asked = False
        self.diagnosis: dict[str, object] | None = None
        """What was found when the node failed, None before."""

    def declare(self, reason: str, *, phase: Phase | None = None) -> bool:
        """End the node's service for good; return False where it drains or has failed already.

        `phase`: where the boot failed, if it is known better than by what runs.
        """
        running = self._boot.running()
        before = self._states.move(NodeState.FAILED, reason)
        if before is None:
            return False
        self._life.close()
        if before is NodeState.STARTING:
            failed_in = phase or (running[0].phase if running else Phase.ENGINE)
            self._log.error("boot_failed", phase=failed_in.value, reason=reason)
            phases = phase_metrics(self._boot.times(), now=time.time())
            self._log.metrics({**phases, "boot.failed": ("Count", 1)})
            self._reporter.boot_failed(phase=failed_in.value, reason=reason, boot=self._boot.to_json())
        else:
            self._log.error("engine_failed", reason=reason, restarts=self._life.restarts, final=True)
            self._reporter.engine_failed(reason=reason, restarts=self._life.restarts, final=True)
        self._worker = threading.Thread(target=self._wind_up, name="failure", daemon=True)
        self._worker.start()
        return True

    def diagnose(self) -> dict[str, object]:
        """Return what can be found out now. Takes a few seconds at most."""
        return collect(self._parts)

    def ask_for_replacement(self, hook: HookView) -> None:
        """Ask the group, once, where the hook does not do it. To be called again until it is known."""
        view = self._states.view()
        if view.state is NodeState.FAILED and not self._asked and must_ask(hook):
            self._asked = True
            self._replacement.ask(view.reason)

    def wait(self, timeout_seconds: float) -> None:
        """Wait until the diagnosis is written, if there is to be one."""
        if self._worker is not None:
            self._worker.join(timeout_seconds)

    def _wind_up(self) -> None:
        collect({"engine_log": self._life.keep_log})
        try:
            self._life.kill()
        except EngineError as err:
            self._log.error("engine_outlived_kill", error=str(err))
        self.diagnosis = self.diagnose()
        self._log.error("diagnosis", diagnosis=self.diagnosis)
