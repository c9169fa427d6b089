"""What tests of a node share: the agent as a process over the emulated engine, and waiting for it."""

from __future__ import annotations

import contextlib
import glob
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import control
from gpu_node_bootstrap.node_agent.errors import ControlError
from gpu_node_bootstrap.node_agent.times import format_utc
from gpu_node_bootstrap.node_agent.vllm_api import parse_load
from local_aws.engines.commands import engine_command, engine_environment
from tests.unit.node.fakes import HOST, INSTANCE_ID, FakeAws, FakeImds

REPOSITORY = Path(__file__).resolve().parents[3]


def oldest_python() -> str | None:
    """Return an interpreter of the oldest version that the agent promises, where this machine has one."""
    candidates = [
        shutil.which("python3.9"),
        *glob.glob(os.path.expanduser("~/.pyenv/versions/3.9.*/bin/python3.9")),
    ]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


AGENT_PYTHON = oldest_python() or sys.executable


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(condition: Callable[[], Any], *, within: float = 10.0, what: str = "") -> Any:
    """Return the first true value of `condition`; fail when none comes."""
    ends_at = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > ends_at:
            pytest.fail(f"not within {within:g} s: {what or condition}")
        time.sleep(0.02)


@dataclass
class Node:
    """An agent under test."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    engine_port: int
    health_port: int
    log_path: Path
    kernel_log: Path = Path(os.devnull)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(max_workers=16))

    @property
    def socket(self) -> str:
        return self.environment["SPOT_FAILOVER_SOCKET"]

    def http(
        self, method: str, port: int, path: str, body: Any = None, *, timeout: float = 30
    ) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text.startswith("{") else text
        finally:
            connection.close()

    def health(self) -> int:
        """Return /healthz's status, 0 when nothing answers."""
        try:
            return self.http("GET", self.health_port, "/healthz", timeout=5)[0]
        except OSError:
            return 0

    def status(self) -> dict[str, Any]:
        """Return the agent's status, as it tells it over its socket alone."""
        content: dict[str, Any] = control.ask(self.socket, {"do": "status"}, connect_seconds=10)["status"]
        return content

    def reaches(self, state: str, *, within: float = 15.0) -> dict[str, Any]:
        """Return the first status in a state."""

        def reached() -> dict[str, Any] | None:
            status = self.status()
            return status if status["state"] == state else None

        found: dict[str, Any] = eventually(reached, within=within, what=f"state {state}: {self.status()}")
        return found

    def wait_ready(self) -> None:
        eventually(lambda: self.health() == 200, what="ready")

    def complete(self, tokens: int, *, timeout: float = 30) -> Future[tuple[int, Any]]:
        """Begin a completion; it takes 10 ms a token at the tests' pace."""
        body = {"model": "tiny", "prompt": "a", "max_tokens": tokens}
        return self.pool.submit(self.http, "POST", self.engine_port, "/v1/completions", body, timeout=timeout)

    def in_flight(self) -> int:
        return parse_load(self.http("GET", self.engine_port, "/metrics")[1]).in_flight

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [AGENT_PYTHON, "-m", "node_agent", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def drain(self, *, seconds: float) -> dict[str, Any]:
        """Drain by command, and return the outcome that it printed."""
        done = self.cli("drain", "--deadlines", f"{INSTANCE_ID}@{format_utc(time.time() + seconds)}")
        assert done.returncode == 0, done.stderr
        (line,) = done.stdout.splitlines()
        outcome: dict[str, Any] = json.loads(line)
        return outcome

    def drain_later(self, *, seconds: float) -> Future[dict[str, Any]]:
        return self.pool.submit(self.drain, seconds=seconds)

    def engine_pids(self) -> list[int]:
        """Return the engine's processes: guard, server and core."""
        pids: list[int] = self.status()["engine"]["pids"]
        return pids

    def server_pid(self) -> int:
        """Return the process that serves, once it does."""
        return sorted(self.engine_pids())[1]

    def fail(self, fault: str) -> None:
        """Have the engine fail in a way that it knows."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.http("POST", self.engine_port, "/_fault", {"fault": fault})

    def kernel_says(self, text: str) -> None:
        """Write a record into the node's kernel log."""
        with self.kernel_log.open("a") as log:
            log.write(f"3,1,{time.monotonic_ns() // 1000},-;{text}\n")

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]

    def events(self) -> list[str]:
        return [entry["event"] for entry in self.log()]

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [entry for entry in self.log() if entry["event"] == event]


class NodeMaker:
    """Starts nodes, and sees to it that nothing of them outlives the test."""

    def __init__(self, tmp_path: Path, imds: FakeImds, aws: FakeAws) -> None:
        self._tmp_path = tmp_path
        self._imds = imds
        self._aws = aws
        self._nodes: list[Node] = []

    def __call__(
        self, *, engine: Sequence[str] | None = None, start_seconds: float = 0.1, **settings: str | float
    ) -> Node:
        engine_port, health_port = free_port(), free_port()
        command = engine_command(
            "emulated", host=HOST, port=engine_port, start_seconds=start_seconds, tokens_per_second=100
        )
        command = list(engine or [*command, "--exit-seconds", "0.1", "--core"])
        own = {
            "FLEET": "chat",
            "REGION": "eu-west-1",
            "ASG_NAME": "spot-failover-chat",
            "LIFECYCLE_HOOK": "spot-failover-ready",
            "ENGINE": "process",
            "SERVED_MODEL_NAME": "tiny",
            "ENGINE_COMMAND": json.dumps(command),
            "ENGINE_PORT": engine_port,
            "HEALTH_HOST": HOST,
            "HEALTH_PORT": health_port,
            "SOCKET": self._tmp_path / "run" / "agent.sock",
            "IMDS_ENDPOINT": self._imds.endpoint,
            "KERNEL_LOG": self._tmp_path / "kmsg",
            "CONTAINER_CACHE": self._tmp_path / "cache",
            "SETTLE_SECONDS": 0.6,
            "DEADLINE_MARGIN_SECONDS": 1,
            **settings,
        }
        environment = {
            **os.environ,
            **engine_environment("emulated"),
            **{f"SPOT_FAILOVER_{name}": str(value) for name, value in own.items()},
            "PATH": f"{self._aws.directory}:{os.environ['PATH']}",
        }
        environment["PYTHONPATH"] = f"{REPOSITORY}:{REPOSITORY / 'gpu_node_bootstrap'}"
        log_path = self._tmp_path / f"agent-{len(self._nodes)}.log"
        with log_path.open("w") as log:
            process = subprocess.Popen(
                [AGENT_PYTHON, "-m", "node_agent", "run"], env=environment, stdout=log, stderr=log, text=True
            )
        node = Node(process, environment, engine_port, health_port, log_path, self._tmp_path / "kmsg")
        self._nodes.append(node)
        return node

    def clean_up(self) -> None:
        for node in self._nodes:
            pids: list[int] = []
            with contextlib.suppress(OSError, ControlError):
                if node.process.poll() is None:
                    pids = node.engine_pids()
            node.process.kill()
            node.process.wait()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.pool.shutdown(wait=False, cancel_futures=True)


def alive(pids: Sequence[int]) -> list[int]:
    """Return those that live; a dead process that nobody has reaped does not."""
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                found.append(pid)
    return found
