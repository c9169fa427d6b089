"""However a local AWS ends, nothing of it is left; and several run side by side."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_aws.addresses import claim_address_block
from local_aws.deploy import REPOSITORY
from local_aws.session import LocalAws, LocalAwsError

# Starts a process in a session of its own, as an agent starts an engine, and never ends.
HANDLER = """
import subprocess, time
def handler(event, context):
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    print("started", flush=True)
    time.sleep(600)
"""

OWNER = """
import sys, time
from pathlib import Path
from local_aws.session import LocalAws
with LocalAws(Path(sys.argv[1])) as aws:
    print(aws.endpoint_url, flush=True)
    time.sleep(600)
"""


def _processes_of(endpoint_url: str) -> list[int]:
    """Return the living processes that were given this endpoint in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"AWS_ENDPOINT_URL={endpoint_url}".encode() in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def _start_sleeper(bench: Any, soon: Callable[..., Any]) -> None:
    """Leave a function running that has started a process of its own."""
    bench.function("sleeper", HANDLER, Timeout=600)
    source = "import json, boto3\ndef handler(event, context): return 1\n"
    bench.function("other", source)
    subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import boto3, sys; boto3.client('lambda').invoke(FunctionName='sleeper')",
        ],
        env=bench.aws.environment | {"AWS_ENDPOINT_URL_LAMBDA": bench.aws.endpoint_url},
        stderr=subprocess.DEVNULL,
    )
    soon(lambda: bench.aws.control.function_log("sleeper"), seconds=60)


@pytest.mark.parametrize("ending", ["stop", "sigkill", "sigterm"])
def test_no_process_survives_its_local_aws(
    tmp_path: Path, soon: Callable[..., Any], make_bench: Callable[[LocalAws], Any], ending: str
) -> None:
    with LocalAws(tmp_path) as aws:
        bench = make_bench(aws)
        _start_sleeper(bench, soon)
        assert len(_processes_of(aws.endpoint_url)) >= 2  # the runtime, and what the handler started
        if ending != "stop":
            os.kill(aws.pid, signal.SIGKILL if ending == "sigkill" else signal.SIGTERM)
            soon(lambda: not _runtimes_of(aws.endpoint_url), seconds=30)
    soon(lambda: not _runtimes_of(aws.endpoint_url), seconds=30)


def _runtimes_of(endpoint_url: str) -> list[int]:
    """Return the processes that the local AWS started: not the clients that tests started themselves."""
    return [pid for pid in _processes_of(endpoint_url) if b"AKIAOPERATOR" not in _environment(pid)]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b"AKIAOPERATOR"  # it is gone


def test_local_aws_ends_with_the_process_that_owns_it(tmp_path: Path, soon: Callable[..., Any]) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline().startswith("http://localhost:")
    served = soon(lambda: _serving(tmp_path))
    owner.kill()
    owner.wait()
    soon(lambda: not _serving(tmp_path), seconds=30)
    assert served
    owner.stdout.close()


def _serving(state_dir: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"serve" in command and str(state_dir).encode() in command:
                found.append(int(entry.name))
    return found


def test_two_run_side_by_side(tmp_path: Path) -> None:
    with LocalAws(tmp_path / "one") as one, LocalAws(tmp_path / "two") as two:
        assert one.about["address_prefix"] != two.about["address_prefix"]
        one.client("sqs").create_queue(QueueName="mine")
        assert "QueueUrls" not in two.client("sqs").list_queues()


def test_port_that_is_taken_is_a_clear_error(tmp_path: Path) -> None:
    with LocalAws(tmp_path / "one") as one:
        port = int(one.endpoint_url.rsplit(":", 1)[1])
        with pytest.raises(LocalAwsError, match="Address already in use"), LocalAws(tmp_path, port=port):
            pass


def test_address_block_is_claimed_by_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local_aws.addresses.random.randint", max)
    block = claim_address_block()
    with pytest.raises(RuntimeError, match="no free 127"):
        claim_address_block(attempts=2)
    block.release()
    claim_address_block().release()
