"""Virtual time: an agenda of what happens when, and processes that wait in it without blocking anybody.

A process is ordinary code (a Lambda handler) on a stack of its own, a greenlet. One runs at a time: a process
gives its turn away when it waits, and what else is due by then happens first. So two handlers meet
between any two of their calls to AWS, each run is the same for the same inputs, and an hour takes
milliseconds.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import greenlet


class Killed(BaseException):
    """Ends a process where it stands: nothing that catches errors catches this."""


class Process:
    """Code that runs in virtual time. `name` is what the journal of calls shows."""

    def __init__(self, name: str, body: Callable[[], None]) -> None:
        self.name = name
        self.killed = False
        self.stack: Any = greenlet.greenlet(body)

    @property
    def ended(self) -> bool:
        """Whether its body is over."""
        return bool(self.stack.dead)


class Timeline:
    """The one clock, in epoch seconds, and the agenda."""

    def __init__(self, *, start: float) -> None:
        self.now = start
        self.current: Process | None = None
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._main: Any = greenlet.getcurrent()
        self._processes: dict[Process, None] = {}

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Do something at a time; what is in the past is done next."""
        heapq.heappush(self._agenda, (max(when, self.now), next(self._order), do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something so many seconds from now."""
        self.at(self.now + seconds, do)

    def start(self, process: Process) -> None:
        """Begin a process, as soon as what is due now is done."""
        self._processes[process] = None
        self.after(0.0, lambda: self._give_turn(process))

    def wait(self, seconds: float) -> None:
        """Let time pass for the process that calls. Outside of one only the clock moves on."""
        process = self.current
        wake = self.now + seconds
        if process is None or not self._agenda or self._agenda[0][0] > wake:
            self.now = wake
        else:
            self.at(wake, lambda: self._give_turn(process))
            self._main.switch()
        if process is not None and process.killed:
            raise Killed

    def kill(self, process: Process) -> None:
        """End a process at the wait in which it is; one that has ended stays ended."""
        if not process.ended:
            process.killed = True
            self._give_turn(process)

    def run(self, until: float) -> None:
        """Let happen what is due until a time."""
        while self._agenda and self._agenda[0][0] <= until:
            when, _, do = heapq.heappop(self._agenda)
            self.now = max(self.now, when)
            do()
        self.now = max(self.now, until)

    def close(self) -> None:
        """End every process that has not ended, so that no stack is left."""
        for process in list(self._processes):
            self.kill(process)

    def _give_turn(self, process: Process) -> None:
        if process.ended:
            return
        before, self.current = self.current, process
        if process.killed and not process.stack:
            process.stack.throw(greenlet.GreenletExit)  # it never began
        else:
            process.stack.switch()
        self.current = before
        if process.ended:
            self._processes.pop(process, None)
