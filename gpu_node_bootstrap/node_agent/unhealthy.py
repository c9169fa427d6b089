"""The word to the group that this node will not serve again: end it, and launch another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from .aws_cli import aws
from .errors import AwsCliError
from .log import Log
from .outbox import Outbox
from .settings import Settings
from .times import format_utc

# Auto Scaling answers so for an instance that no group has: it was detached, or no group ever launched it.
NOT_FOUND = ("Instance Id not found", "not part of Auto Scaling group", "No managed instance found")


class Replacement(str, Enum):
    """How far the request for this node's replacement is."""

    NOT_ASKED = "not_asked"
    ASKING = "asking"
    ASKED = "asked"
    NOT_IN_GROUP = "not_in_group"
    """The group has let this node go already, and whoever detached it asked for another."""


@dataclass(frozen=True)
class ReplacementView:
    """The request as `/status` shows it."""

    result: Replacement = Replacement.NOT_ASKED
    reason: str = ""
    tries: int = 0
    asked_at: float | None = None
    error: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it with times in UTC."""
        asked_at = None if self.asked_at is None else format_utc(self.asked_at)
        return {
            "result": self.result.value,
            "reason": self.reason,
            "tries": self.tries,
            "asked_at": asked_at,
            "error": self.error,
        }


class ReplacementRequest:
    """Asks the group once, however often it is told to, and tries until the group has it."""

    def __init__(self, settings: Settings, *, instance_id: Callable[[], str | None], log: Log) -> None:
        self._region = settings.region
        self._instance_id = instance_id
        self._log = log
        self._lock = threading.Lock()
        self._view = ReplacementView()
        self._outbox: Outbox[str] = Outbox("replacement", send=self._send, room=1, log=log)

    @property
    def view(self) -> Mapping[str, object]:
        """Return what `/status` shows."""
        return self._view.to_json()

    def ask(self, reason: str) -> None:
        """Ask for this node to be replaced, because of `reason`. Returns at once."""
        with self._lock:
            if self._view.result is not Replacement.NOT_ASKED:
                return
            self._view = ReplacementView(Replacement.ASKING, reason)
        self._outbox.put(reason, within_seconds=0)
        self._outbox.start()

    def close(self, *, grace_seconds: float) -> None:
        """Let a request that is on its way arrive, within this time."""
        self._outbox.close(grace_seconds=grace_seconds)

    def _send(self, reasons: Sequence[str], timeout_seconds: float) -> int:
        instance_id = self._instance_id()
        if instance_id is None:
            return 0
        self._view = replace(self._view, tries=self._view.tries + 1)
        try:
            self._call(instance_id, timeout_seconds)
        except AwsCliError as err:
            if not any(text in str(err) for text in NOT_FOUND):
                self._view = replace(self._view, error=str(err))
                raise
            self._end(Replacement.NOT_IN_GROUP)
        else:
            self._end(Replacement.ASKED)
        return len(reasons)

    def _call(self, instance_id: str, timeout_seconds: float) -> None:
        # The grace period is for nodes that still start; this one has come to its end.
        aws(
            *("autoscaling", "set-instance-health", "--instance-id", instance_id),
            *("--health-status", "Unhealthy", "--no-should-respect-grace-period"),
            region=self._region,
            timeout_seconds=timeout_seconds,
        )

    def _end(self, result: Replacement) -> None:
        self._view = replace(self._view, result=result, asked_at=time.time(), error="")
        self._log.info(
            "replacement_asked", result=result.value, reason=self._view.reason, tries=self._view.tries
        )
