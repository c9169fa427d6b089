"""Commands that prepare a node: each in a process group of its own, so that all can be ended at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import Callable, TypeVar

from .errors import CommandError

ERROR_LINES = 3
ERROR_CHARACTERS = 500

T = TypeVar("T")


class Commands:
    """Runs commands for several threads until it is stopped, and then none any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = threading.Event()

    @property
    def stopped(self) -> bool:
        """Return whether `stop` was called."""
        return self._stopped.is_set()

    def run(self, *command: str, timeout_seconds: float | None = None) -> str:
        """Return what the command printed. Raises CommandError; None: it may take for ever."""
        process = self._start(command)
        try:
            output, error = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired as err:
            _kill_group(process)
            process.communicate()
            raise CommandError(f"{command[0]}: no answer within {timeout_seconds:g} s") from err
        finally:
            with self._lock:
                self._running.discard(process)
        if self.stopped:
            raise CommandError(f"{command[0]} was stopped")
        if process.returncode != 0:
            raise CommandError(first_lines(error) or f"{command[0]} ended with {process.returncode}")
        return output

    def aws(self, *arguments: str, region: str, timeout_seconds: float | None) -> str:
        """Run the AWS command line as `aws_cli.aws` does, but so that `stop` ends it. Raises CommandError."""
        return self.run("aws", "--region", region, *arguments, timeout_seconds=timeout_seconds)

    def tried(self, call: Callable[[], T], *, tries: int, first_pause_seconds: float = 1.0) -> T:
        """Return what `call` returns, trying with growing pauses. Raises its last CommandError."""
        pause = first_pause_seconds
        for _ in range(tries - 1):
            try:
                return call()
            except CommandError:
                self.pause(pause)
                pause *= 2
        return call()

    def pause(self, seconds: float) -> None:
        """Wait. Raises CommandError when stopped meanwhile."""
        if self._stopped.wait(seconds):
            raise CommandError("stopped")

    def stop(self, *, grace_seconds: float = 2.0) -> None:
        """Kill what runs, with its children, and let nothing start any more; return when it is gone."""
        self._stopped.set()
        with self._lock:
            running = list(self._running)
        for process in running:
            _kill_group(process)
        ends_at = time.monotonic() + grace_seconds
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, ends_at - time.monotonic()))

    def _start(self, command: tuple[str, ...]) -> subprocess.Popen[str]:
        # Under the lock, so that a stop sees every process that was started before it.
        with self._lock:
            if self.stopped:
                raise CommandError(f"{command[0]} was stopped")
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                )
            except OSError as err:
                raise CommandError(f"cannot run {command[0]}: {err}") from err
            self._running.add(process)
            return process


def _kill_group(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def first_lines(text: str) -> str:
    """Return the beginning of a complaint: enough to know it by, and no more."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:ERROR_LINES])[:ERROR_CHARACTERS]
