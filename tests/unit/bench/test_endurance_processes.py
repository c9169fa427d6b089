"""A local process is known by its command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid

import pytest

from bench.endurance.processes import Part, identify, read_all
from local_aws.engines.commands import engine_command
from local_aws.nodes.processes import NODE_MARK
from local_aws.reaper import MARK


@pytest.mark.parametrize(
    ("arguments", "node", "expected"),
    [
        (
            ["python", "-S", "-m", "awslambdaric", "drain_node.handler.handler"],
            "",
            (Part.FUNCTION, "drain_node"),
        ),
        (
            ["/n/bin/python3", "/n/root/usr/local/bin/spot-failover-node", "run"],
            "i-1/spot-failover-agent.service",
            (Part.AGENT, "i-1"),
        ),
        (["python3", "/n/root/usr/local/bin/spot-failover-node", "drain"], "i-1", (Part.OTHER, "i-1")),
        (engine_command("emulated", host="127.0.0.1", port=1), "i-1/unit", (Part.ENGINE, "i-1")),
        (["python", "-m", "vllm.entrypoints.openai.api_server"], "i-2", (Part.ENGINE, "i-2")),
        (["aws", "s3", "cp"], "i-1", (Part.OTHER, "i-1")),
        ([], "", (Part.OTHER, "")),
    ],
)
def test_process_is_known_by_its_command_line(
    arguments: list[str], node: str, expected: tuple[Part, str]
) -> None:
    assert identify(arguments, node=node) == expected


def test_what_a_server_started_is_read_and_nothing_else() -> None:
    mark = uuid.uuid4().hex
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    child = f"import subprocess, time; subprocess.Popen({sleep!r}); time.sleep(60)"
    own = {**os.environ, MARK: mark, NODE_MARK: "i-1"}
    mine = subprocess.Popen([sys.executable, "-c", child], env=own, start_new_session=True)
    foreign = subprocess.Popen(sleep, env={**os.environ, MARK: uuid.uuid4().hex})
    try:
        limit = time.monotonic() + 20
        while len(readings := read_all(os.getpid())) < 3 and time.monotonic() < limit:
            time.sleep(0.05)
        by_pid = {reading.pid: reading for reading in readings}
        assert by_pid[os.getpid()].part is Part.SERVER
        assert by_pid[mine.pid].name == "i-1"
        assert len(by_pid) == 3
        assert foreign.pid not in by_pid
        assert all(reading.memory_bytes > 1_000_000 for reading in readings)
        assert all(reading.threads >= 1 and reading.descriptors >= 3 for reading in readings)
    finally:
        os.killpg(mine.pid, 9)
        mine.wait()
        foreign.kill()
        foreign.wait()


def test_server_that_is_gone_has_no_readings() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert read_all(ended.pid) == ()
