"""What the load balancer can reach, and where."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import health_server
from gpu_node_bootstrap.node_agent.health_server import HealthServer, resolve_host
from gpu_node_bootstrap.node_agent.http_fetch import fetch
from gpu_node_bootstrap.node_agent.imds import Imds
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.state import NodeState, StateMachine


def resolved(endpoint: str, host: str = "auto") -> tuple[str, str]:
    stream = io.StringIO()
    return resolve_host(host, Imds(endpoint), log=Log(stream=stream), within_seconds=0.3), stream.getvalue()


def test_a_node_answers_on_its_own_private_address(imds: Any) -> None:
    imds.local_ipv4 = "10.0.3.7"
    assert resolved(imds.endpoint) == ("10.0.3.7", "")


def test_a_host_that_is_named_is_taken_without_a_question(imds: Any) -> None:
    assert resolved(imds.endpoint, "127.0.0.9") == ("127.0.0.9", "")
    assert imds.paths == []


def test_a_silent_metadata_service_costs_some_seconds_and_no_health_check(imds: Any) -> None:
    imds.failing_with = 500
    began = time.monotonic()
    host, log = resolved(imds.endpoint)
    assert time.monotonic() - began < 2
    assert host == health_server.ANY_ADDRESS
    assert "health_host_unknown" in log


@pytest.mark.parametrize("state", [state for state in NodeState if state is not NodeState.DRAINED])
def test_only_a_ready_node_is_healthy(kit: Any, state: NodeState) -> None:
    states = StateMachine()
    if state is NodeState.RECOVERING:
        states.move(NodeState.READY, "")
    states.move(state, "because")
    server = HealthServer(host=kit.HOST, port=0, view=states.view)
    server.start()
    try:
        answer = fetch(kit.HOST, server.port, "GET", "/healthz", timeout_seconds=5)
    finally:
        server.close()
    assert answer.status == (200 if state is NodeState.READY else 503)
    assert answer.body == f'{{"state": "{state.value}", "reason": "because"}}\n'.encode()


def test_only_a_load_balancers_own_check_tells_that_the_node_is_registered(kit: Any) -> None:
    server = HealthServer(host=kit.HOST, port=0, view=StateMachine().view)
    server.start()
    try:
        for agent in ("curl/8.5.0", "Amazon CloudFront"):
            fetch(kit.HOST, server.port, "GET", "/healthz", headers={"User-Agent": agent}, timeout_seconds=5)
        assert server.checked_at is None
        began = time.monotonic()
        headers = {"User-Agent": "ELB-HealthChecker/2.0"}
        fetch(kit.HOST, server.port, "GET", "/healthz", headers=headers, timeout_seconds=5)
        assert server.checked_at is not None
        assert began <= server.checked_at <= time.monotonic()
    finally:
        server.close()
