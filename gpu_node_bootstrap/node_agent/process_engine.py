"""The engine as a process group of its own: what a node without a container runtime runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from .engine import Engine
from .errors import EngineError
from .log import Log
from .preparation import Prepared
from .settings import EngineKind

KILL_SECONDS = 4.0
MODEL = "{model}"
"""Stands in the command for the model that was prepared."""
TAIL_LINES = 200
LONGEST_LINE = 4096
"""Bytes; more of one line is passed on as a line of its own."""
STDOUT = 1
_POLL_SECONDS = 0.02


class ProcessEngine(Engine):
    """Starts the engine in its own session, under a guard that takes it along if the agent dies."""

    kind = EngineKind.PROCESS

    def __init__(self, command: Sequence[str], *, log: Log) -> None:
        self._command = list(command)
        self._log = log
        self._guard: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)

    def start(self, prepared: Prepared) -> None:
        """Start the guard, which starts the engine."""
        guard = Path(__file__).with_name("process_guard.py")
        command = [word.replace(MODEL, prepared.model) for word in self._command]
        try:
            self._guard = subprocess.Popen(
                # -S -E: the guard needs nothing but the standard library, and starts sooner without the rest.
                [sys.executable, "-S", "-E", str(guard), *command, *prepared.engine_args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **prepared.environment},
                start_new_session=True,
            )
        except OSError as err:
            raise EngineError(f"cannot start {self._command[0]}: {err}") from err
        assert self._guard.stdout is not None
        self._reader = threading.Thread(
            target=self._pass_on, args=(self._guard.stdout,), name="engine-output", daemon=True
        )
        self._reader.start()

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
        """Return the last lines of the engine's output, up to TAIL_LINES."""
        if self._reader is not None and self.exit_status() is not None:
            # What it wrote last, and most wants to be read, may still be in the pipe.
            self._reader.join(1)
        return [line.decode(errors="replace").rstrip("\n") for line in list(self._tail)[-lines:]]

    def _pass_on(self, output: IO[bytes]) -> None:
        """Write the engine's output to where the agent's own goes, the journal, and keep the end of it.

        Should the agent die, the engine dies of the guard before it could wait for a full pipe.
        """
        with output:
            while line := output.readline(LONGEST_LINE):
                self._tail.append(line)
                with contextlib.suppress(OSError):
                    os.write(STDOUT, line)


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
