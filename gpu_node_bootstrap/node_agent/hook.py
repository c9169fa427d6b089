"""Completes the launch lifecycle hook: the word to the group that this node is ready for traffic."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .errors import HookError
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


@dataclass(frozen=True)
class HookView:
    """The hook as `/status` shows it."""

    result: HookResult
    tries: int = 0
    completed_at: float | None = None
    error: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it with times in UTC."""
        completed_at = None if self.completed_at is None else format_utc(self.completed_at)
        return {
            "result": self.result.value,
            "tries": self.tries,
            "completed_at": completed_at,
            "error": self.error,
        }


def completion_command(settings: Settings, instance_id: str) -> list[str]:
    """Return the AWS command line's words for it."""
    return [
        "aws",
        "autoscaling",
        "complete-lifecycle-action",
        "--region",
        settings.region,
        "--auto-scaling-group-name",
        settings.asg_name,
        "--lifecycle-hook-name",
        settings.lifecycle_hook,
        "--instance-id",
        instance_id,
        "--lifecycle-action-result",
        "CONTINUE",
    ]


def complete_once(settings: Settings, instance_id: str) -> HookResult:
    """Call Auto Scaling. Raises HookError when trying again may help."""
    try:
        done = subprocess.run(
            completion_command(settings, instance_id),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CALL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise HookError(str(err)) from err
    if done.returncode == 0:
        return HookResult.COMPLETED
    error = done.stderr.strip()
    if "No active Lifecycle Action found" in error:
        return HookResult.NOT_WAITING
    raise HookError(error or f"aws ended with {done.returncode}")


class HookCompleter(threading.Thread):
    """Completes the hook, trying until it succeeds or the node has no use for it any more."""

    def __init__(
        self,
        settings: Settings,
        *,
        instance_id: Callable[[], str | None],
        still_wanted: Callable[[], bool],
        log: Log,
    ) -> None:
        super().__init__(name="hook", daemon=True)
        self._settings = settings
        self._instance_id = instance_id
        self._still_wanted = still_wanted
        self._log = log
        self.view = HookView(HookResult.PENDING if settings.lifecycle_hook else HookResult.NO_HOOK)

    def run(self) -> None:
        """Try with growing pauses."""
        pause = FIRST_PAUSE_SECONDS
        while self.view.result is HookResult.PENDING and self._still_wanted():
            instance_id = self._instance_id()
            if instance_id is None:
                time.sleep(0.1)
                continue
            try:
                result = complete_once(self._settings, instance_id)
            except HookError as err:
                self.view = HookView(HookResult.PENDING, self.view.tries + 1, error=str(err))
                self._log.warning("hook_not_completed", error=str(err), tries=self.view.tries)
                time.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                self.view = HookView(result, self.view.tries + 1, completed_at=time.time())
                self._log.info("hook_completed", result=result.value, tries=self.view.tries)
