"""What is to reach AWS some time: one thread sends it, in order, and again until it has arrived.

Nothing here blocks or raises into whoever puts something in: neither readiness nor a drain waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .errors import AgentError
from .log import Log

CALL_SECONDS = 20.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

T = TypeVar("T")


class Outbox(Generic[T]):
    """Holds what waits to be sent.

    `send(items, timeout_seconds)` sends the first items, as many as one call takes, and returns
    their number; it raises AgentError when they are to be sent again, and may return 0 for "not yet".
    """

    def __init__(self, name: str, *, send: Callable[[Sequence[T], float], int], room: int, log: Log) -> None:
        """`room`: of more waiting items than this, the oldest are dropped, and counted."""
        self._name = name
        self._send = send
        self._room = room
        self._log = log
        self._changed = threading.Condition()
        self._waiting: list[T] = []
        self._first = 0  # the number, since the start, of the first item that waits
        self._lost = 0
        self._due_at: float | None = None
        self._ends_at: float | None = None
        self._error = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Send from now on."""
        self._thread.start()

    def put(self, item: T, *, within_seconds: float) -> None:
        """Have it sent, with all before it, in a call that begins within this time."""
        due_at = time.monotonic() + within_seconds
        with self._changed:
            self._waiting.append(item)
            excess = len(self._waiting) - self._room
            if excess > 0:
                del self._waiting[:excess]
                self._first += excess
                self._lost += excess
            if self._due_at is None or due_at < self._due_at:
                self._due_at = due_at
                self._changed.notify()

    def close(self, *, grace_seconds: float) -> None:
        """Send what waits now, and wait for that, but not longer than this; the rest is lost."""
        with self._changed:
            self._ends_at = time.monotonic() + grace_seconds
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(grace_seconds)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while self._wait_until_due():
            with self._changed:
                items, first, self._due_at = list(self._waiting), self._first, None
            sent = self._try(items)
            self._take(first + sent)
            if sent:
                pause = FIRST_PAUSE_SECONDS
            else:
                self._rest(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _wait_until_due(self) -> bool:
        """Return whether there is something to send now; False at the end."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._ends_at is not None:
                    return bool(self._waiting) and now < self._ends_at
                if self._waiting and self._due_at is not None and self._due_at <= now:
                    return True
                self._changed.wait(None if self._due_at is None else self._due_at - now)

    def _try(self, items: Sequence[T]) -> int:
        ends_at = self._ends_at
        left = CALL_SECONDS if ends_at is None else max(0.1, ends_at - time.monotonic())
        try:
            sent = self._send(items, min(CALL_SECONDS, left))
        except AgentError as err:
            if str(err) != self._error:  # the same complaint every minute would be all that the log holds
                self._log.warning(f"{self._name}_not_sent", error=str(err))
            self._error = str(err)
            return 0
        self._error = ""
        return sent

    def _take(self, sent_up_to: int) -> None:
        with self._changed:
            # Of what was sent, some may have been dropped meanwhile to make room.
            del self._waiting[: max(0, sent_up_to - self._first)]
            self._first = max(self._first, sent_up_to)
            lost, self._lost = self._lost, 0
            if self._waiting and self._due_at is None:
                self._due_at = time.monotonic()
        if lost:
            self._log.warning(f"{self._name}_lost", count=lost)

    def _rest(self, seconds: float) -> None:
        with self._changed:
            ends_at = time.monotonic() + seconds
            while self._ends_at is None and time.monotonic() < ends_at:
                self._changed.wait(ends_at - time.monotonic())
            if self._ends_at is not None:
                # The last moments: no pause of seconds, and no call after call either.
                self._changed.wait(min(0.2, max(0.0, self._ends_at - time.monotonic())))
