"""Completes the launch lifecycle hook: the word to the group that this node is ready, or will never be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .aws_cli import aws
from .errors import AwsCliError, HookError
from .log import Log
from .settings import Settings
from .times import format_utc

CALL_SECONDS = 20.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0


class HookResult(str, Enum):
    """What became of the hook."""

    NO_HOOK = "no_hook"
    PENDING = "pending"
    COMPLETED = "completed"
    NOT_WAITING = "not_waiting"
    """The group waits for no such action: the node is in service already, or the hook timed out."""


class HookAnswer(str, Enum):
    """What the group does with a launch that waits, as CompleteLifecycleAction names it."""

    CONTINUE = "CONTINUE"
    """Into service."""
    ABANDON = "ABANDON"
    """End the instance and launch another now, and not when the hook times out."""


@dataclass(frozen=True)
class HookView:
    """The hook as `/status` shows it."""

    result: HookResult
    tries: int = 0
    answer: HookAnswer | None = None
    completed_at: float | None = None
    error: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it with times in UTC."""
        completed_at = None if self.completed_at is None else format_utc(self.completed_at)
        return {
            "result": self.result.value,
            "tries": self.tries,
            "answer": None if self.answer is None else self.answer.value,
            "completed_at": completed_at,
            "error": self.error,
        }


def complete_once(settings: Settings, instance_id: str, answer: HookAnswer) -> HookResult:
    """Call Auto Scaling. Raises HookError when trying again may help."""
    try:
        aws(
            *("autoscaling", "complete-lifecycle-action", "--auto-scaling-group-name", settings.asg_name),
            *("--lifecycle-hook-name", settings.lifecycle_hook, "--instance-id", instance_id),
            *("--lifecycle-action-result", answer.value),
            region=settings.region,
            timeout_seconds=CALL_SECONDS,
        )
    except AwsCliError as err:
        if "No active Lifecycle Action found" in str(err):
            return HookResult.NOT_WAITING
        raise HookError(str(err)) from err
    return HookResult.COMPLETED


class HookCompleter(threading.Thread):
    """Waits for the node's answer and gives it, trying until that succeeds."""

    def __init__(
        self,
        settings: Settings,
        *,
        instance_id: Callable[[], str | None],
        answer: Callable[[], HookAnswer | None],
        log: Log,
    ) -> None:
        """`answer` returns None for as long as the node cannot tell yet; it may change until it was given."""
        super().__init__(name="hook", daemon=True)
        self._settings = settings
        self._instance_id = instance_id
        self._answer = answer
        self._log = log
        self.view = HookView(HookResult.PENDING if settings.lifecycle_hook else HookResult.NO_HOOK)

    def run(self) -> None:
        """Try with growing pauses."""
        pause = FIRST_PAUSE_SECONDS
        while self.view.result is HookResult.PENDING:
            instance_id, answer = self._instance_id(), self._answer()
            if instance_id is None or answer is None:
                time.sleep(0.1)
            elif not self._give(answer, instance_id):
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def give_up(self) -> None:
        """Let an ABANDON that is on its way arrive: the process, and this thread with it, is about to end."""
        if self.is_alive() and self._answer() is HookAnswer.ABANDON:
            self.join(CALL_SECONDS)

    def _give(self, answer: HookAnswer, instance_id: str) -> bool:
        tries = self.view.tries + 1
        try:
            result = complete_once(self._settings, instance_id, answer)
        except HookError as err:
            self.view = HookView(HookResult.PENDING, tries, answer, error=str(err))
            self._log.warning("hook_not_completed", answer=answer.value, error=str(err), tries=tries)
            return False
        self.view = HookView(result, tries, answer, completed_at=time.time())
        self._log.info("hook_completed", answer=answer.value, result=result.value, tries=tries)
        return True
