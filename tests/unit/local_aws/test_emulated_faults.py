"""The emulated engine fails when it is told to, the way vLLM fails by itself."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent.errors import EngineAnswerError
from gpu_node_bootstrap.node_agent.vllm_api import EngineApi
from local_aws.engines.commands import completes, engine_command, engine_environment
from local_aws.engines.emulated_options import CRASH_STATUS

HOST = "127.0.0.1"


def eventually(what: Callable[[], bool], *, within: float = 10) -> None:
    give_up = time.monotonic() + within
    while not what():
        assert time.monotonic() < give_up, "it did not become true in time"
        time.sleep(0.02)


def ask(port: int, method: str, path: str, body: Any = None) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body))
        return connection.getresponse().status


Started = tuple[subprocess.Popen[bytes], int]


@pytest.fixture
def start() -> Iterator[Callable[..., Started]]:
    running: list[subprocess.Popen[bytes]] = []

    def started(*flags: str) -> Started:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        command = engine_command("emulated", host=HOST, port=port, start_seconds=0)
        process = subprocess.Popen([*command, *flags], env=engine_environment("emulated"))
        running.append(process)
        eventually(lambda: _healthy(port))
        return process, port

    yield started
    for process in running:
        process.kill()
        process.wait()


def _healthy(port: int) -> bool:
    try:
        return ask(port, "GET", "/health") == 200
    except OSError:
        return False


def _tokens(port: int) -> int:
    """Return the prompt and generation tokens that the engine has counted."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines if "_tokens_total{" in line))


def test_hang_leaves_health_alive_and_lets_no_token_through(start: Callable[..., Started]) -> None:
    process, port = start()
    assert completes(HOST, port)
    counted = _tokens(port)
    assert ask(port, "POST", "/_fault", {"fault": "hang"}) == 200
    assert not completes(HOST, port, timeout_seconds=0.5)
    assert ask(port, "GET", "/health") == 200
    assert process.poll() is None
    assert _tokens(port) == counted, "an engine that hangs shows no progress"
    # vLLM's server goes on showing what its core told it last: nothing was running then.
    assert EngineApi(host=HOST, port=port, served_model_name="tiny").load().in_flight == 0


def test_exit_ends_the_process_like_a_crash(start: Callable[..., Started]) -> None:
    process, port = start()
    with contextlib.suppress(OSError, http.client.HTTPException):
        ask(port, "POST", "/_fault", {"fault": "exit"})
    assert process.wait(timeout=5) == CRASH_STATUS
    with pytest.raises(EngineAnswerError):
        EngineApi(host=HOST, port=port, served_model_name="tiny").load()


def test_it_fails_by_itself_when_its_command_line_says_so(start: Callable[..., Started]) -> None:
    process, port = start("--fail", "exit", "--fail-after-seconds", "0.5")
    assert completes(HOST, port)
    assert process.wait(timeout=5) == CRASH_STATUS


def test_health_comes_before_the_first_completion_where_the_warm_up_takes_long(
    start: Callable[..., Started],
) -> None:
    _, port = start("--warm-up-seconds", "1")
    assert not completes(HOST, port, timeout_seconds=0.2)
    eventually(lambda: completes(HOST, port), within=3)


@pytest.mark.parametrize("body", [{}, {"fault": "melt"}, [], "hang"])
def test_unknown_fault_is_refused_and_changes_nothing(start: Callable[..., Started], body: Any) -> None:
    _, port = start()
    assert ask(port, "POST", "/_fault", body) == 400
    assert completes(HOST, port)
