"""Kills what a local AWS leaves behind, whichever way it ended.

Functions, agents and engines make process groups and sessions of their own, so no group holds them all. What
they all inherit is a mark in the environment. A reaper process waits on a pipe from the local AWS: the pipe
closes with it, also after SIGKILL, and then everything with the mark is killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "SPOT_FAILOVER_LOCAL_AWS"


def marked_processes(mark: str) -> list[int]:
    """Return the ids of all processes that were started with `MARK=mark` in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit() or int(directory.name) == os.getpid():
            continue
        try:
            environment = (directory / "environ").read_bytes()
        except OSError:
            continue  # it ended meanwhile, or it is another user's
        if wanted in environment.split(b"\0"):
            found.append(int(directory.name))
    return found


def kill_marked(mark: str, *, patience_seconds: float = 5.0) -> list[int]:
    """SIGKILL everything marked until nothing is left; return what is left when patience ends."""
    give_up = time.monotonic() + patience_seconds
    while (left := marked_processes(mark)) and time.monotonic() < give_up:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return left


def start_reaper(mark: str) -> subprocess.Popen[bytes]:
    """Start the process that outlives us for a moment. Keep the returned object: its stdin is the pipe."""
    return subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__)), mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a signal to our process group must not take the reaper first
        env={},  # nor the mark: it would kill itself
    )


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    kill_marked(sys.argv[1])
