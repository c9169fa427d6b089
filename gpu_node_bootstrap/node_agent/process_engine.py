"""The engine as a process group of its own: what a node without a container runtime runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .engine import Engine
from .errors import EngineError
from .log import Log
from .preparation import Prepared
from .settings import EngineKind

KILL_SECONDS = 4.0
_POLL_SECONDS = 0.02


class ProcessEngine(Engine):
    """Starts the engine in its own session, under a guard that takes it along if the agent dies."""

    kind = EngineKind.PROCESS

    def __init__(self, command: Sequence[str], *, log: Log) -> None:
        self._command = list(command)
        self._log = log
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self, prepared: Prepared) -> None:
        """Start the guard, which starts the engine."""
        guard = Path(__file__).with_name("process_guard.py")
        try:
            self._guard = subprocess.Popen(
                # -S -E: the guard needs nothing but the standard library, and starts sooner without the rest.
                [sys.executable, "-S", "-E", str(guard), *self._command],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as err:
            raise EngineError(f"cannot start {self._command[0]}: {err}") from err

    def exit_status(self) -> int | None:
        """Return the guard's status, which is the engine's."""
        return None if self._guard is None else self._guard.poll()

    def terminate(self) -> None:
        """Send SIGTERM to the API server alone: a core that got it too would drop its requests."""
        if self._guard is not None and self._guard.poll() is None:
            self._guard.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the group until none of it lives."""
        guard = self._guard
        if guard is None:
            return
        ends_at = time.monotonic() + KILL_SECONDS
        while members := group_members(guard.pid):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(guard.pid, signal.SIGKILL)
            guard.poll()
            if time.monotonic() > ends_at:
                raise EngineError(f"processes of the engine outlived SIGKILL: {members}")
            time.sleep(_POLL_SECONDS)
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.wait(timeout=1)

    def describe(self) -> dict[str, object]:
        """Return the ids of the engine's processes."""
        return {"pids": [] if self._guard is None else group_members(self._guard.pid)}

    def log_tail(self, lines: int) -> list[str]:
        """Return the last lines of the engine's output."""
        return []


def group_members(group: int) -> list[int]:
    """Return the living processes of a session's first process group; unreaped dead ones do not count."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_member(pid, group)]


def _is_member(pid: int, group: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    # proc(5): pid (name) state ppid pgrp session; only the name can hold a space or a parenthesis.
    state, _parent, process_group, session = stat.rpartition(")")[2].split()[:4]
    return state not in "ZX" and int(process_group) == group == int(session)
