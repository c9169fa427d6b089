"""The processes of one local node: how they are marked, found and killed.

A node on EC2 is a machine, and when it is terminated everything on it is gone. Here a node is the set of
processes that carry its mark in their environment, together with their descendants and sessions, so that
neither a process that was started in a session of its own nor one that dropped its environment outlives the
node.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

NODE_MARK = "SPOT_FAILOVER_LOCAL_NODE"
UNIT_MARK = "SPOT_FAILOVER_LOCAL_UNIT"

_PROC = Path("/proc")


@dataclass(frozen=True)
class ProcessInfo:
    """One live process as /proc shows it; `mark` is the environment variable's value."""

    pid: int
    parent: int
    session: int
    mark: str


def read_processes(variable: str) -> list[ProcessInfo]:
    """Return all live processes that this user may read, each with its value of `variable`."""
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            info = _read_process(entry, variable.encode() + b"=")
            if info is not None:
                found.append(info)
    return found


def _read_process(entry: Path, prefix: bytes) -> ProcessInfo | None:
    try:
        stat = (entry / "stat").read_text()
        environ = (entry / "environ").read_bytes()
    except OSError:
        return None
    state, parent, _, session = stat.rpartition(")")[2].split()[:4]
    if state in ("Z", "X"):
        return None
    mark = next((e[len(prefix) :] for e in environ.split(b"\0") if e.startswith(prefix)), b"")
    return ProcessInfo(int(entry.name), int(parent), int(session), mark.decode(errors="replace"))


def select_marked(processes: Iterable[ProcessInfo], mark: str, *, own_session: int) -> set[int]:
    """Return the pids of `mark`: the marked processes, their descendants, and who shares their sessions.

    `own_session` is the caller's session: it is never taken for a node's, whatever runs in it.
    """
    known = list(processes)
    chosen = {p.pid for p in known if _is_under(p.mark, mark)}
    sessions = {p.session for p in known if p.pid in chosen} - {own_session}
    chosen |= {p.pid for p in known if p.session in sessions}
    while True:
        more = {p.pid for p in known if p.parent in chosen and not p.mark} - chosen
        if not more:
            return chosen
        chosen |= more


def _is_under(value: str, mark: str) -> bool:
    return value == mark or value.startswith(mark + "/")


def marked_pids(mark: str, *, variable: str = NODE_MARK) -> set[int]:
    """Return the live pids of a mark. The mark `a` also covers the marks `a/...`: a unit of a node."""
    chosen = select_marked(read_processes(variable), mark, own_session=os.getsid(0))
    return chosen - {os.getpid()}


def pids_by_mark(marks: Iterable[str]) -> dict[str, set[int]]:
    """Return the live pids of several nodes with one look at /proc."""
    processes, own_session = read_processes(NODE_MARK), os.getsid(0)
    return {mark: select_marked(processes, mark, own_session=own_session) for mark in marks}


def kill_marked(mark: str, *, variable: str = NODE_MARK, timeout: float = 10.0) -> set[int]:
    """SIGKILL everything under a mark until nothing is left; return the pids still alive after `timeout`
    seconds.

    One pass is not enough: a process may fork between the reading of /proc and the kill.
    """
    give_up_at = time.monotonic() + timeout
    while True:
        pids = marked_pids(mark, variable=variable)
        if not pids or time.monotonic() > give_up_at:
            return pids
        send_signal(pids, signal.SIGKILL)
        time.sleep(0.02)


def send_signal(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each pid; one that is gone already is no error."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def spawn(
    command: list[str],
    *,
    environment: Mapping[str, str],
    cwd: Path,
    output: IO[bytes] | int,
    error: IO[bytes] | int = subprocess.STDOUT,
) -> subprocess.Popen[bytes]:
    """Start a process of a node in a session of its own, with exactly the given environment."""
    return subprocess.Popen(
        command,
        env=dict(environment),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=error,
        start_new_session=True,
    )
