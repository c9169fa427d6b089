"""Finding and killing everything that belongs to a node."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid

from local_aws.nodes.processes import NODE_MARK, ProcessInfo, kill_marked, marked_pids, select_marked


def process(pid: int, parent: int, session: int, mark: str = "") -> ProcessInfo:
    return ProcessInfo(pid, parent, session, mark)


def test_descendants_and_sessions_of_marked_processes_belong_to_the_node() -> None:
    found = select_marked(
        [
            process(10, 1, 10, "i-1"),
            process(11, 10, 11),  # a session of its own, and no environment
            process(12, 11, 12),
            process(13, 1, 10),  # left its parent, but not its session
            process(20, 1, 20, "i-2"),
            process(30, 10, 30, "i-2"),
            process(40, 1, 40),
        ],
        "i-1",
        own_session=99,
    )
    assert found == {10, 11, 12, 13}


def test_own_session_is_never_taken_along() -> None:
    assert select_marked([process(10, 1, 5, "i-1"), process(11, 1, 5)], "i-1", own_session=5) == {10}


def test_mark_covers_its_units_and_not_its_namesakes() -> None:
    processes = [process(1, 0, 1, "i-1/agent"), process(2, 0, 2, "i-10")]
    assert select_marked(processes, "i-1", own_session=99) == {1}


def test_nothing_outlives_the_kill() -> None:
    mark = uuid.uuid4().hex
    script = (
        "import subprocess, time;"
        "subprocess.Popen(['sleep', '60'], start_new_session=True, env={});"
        "time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, NODE_MARK: mark}, start_new_session=True
    )
    give_up = time.monotonic() + 10
    while len(marked_pids(mark)) < 2:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert kill_marked(mark) == set()
    assert parent.wait() != 0
