"""What the load balancer can reach, and where."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import health_server
from gpu_node_bootstrap.node_agent.agent import Agent
from gpu_node_bootstrap.node_agent.health_server import HealthServer, device_of, resolve_host
from gpu_node_bootstrap.node_agent.http_fetch import fetch
from gpu_node_bootstrap.node_agent.imds import Imds
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.settings import Settings
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


def own_address() -> tuple[str, str]:
    """Return an address of this machine that is not its loopback's, and the interface that has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network interface but the loopback")
        address: str = probe.getsockname()[0]
    device = device_of(address)
    assert device is not None
    return address, device


def test_only_what_comes_by_the_nodes_own_interface_is_answered() -> None:
    address, device = own_address()
    # As from a container's bridge: the socket would take the address, had it not come by another interface.
    server = HealthServer(host=health_server.ANY_ADDRESS, port=0, view=StateMachine().view, device=device)
    server.start()
    try:
        assert fetched(address, server.port)
        with pytest.raises(ConnectionRefusedError):
            fetch("127.0.0.1", server.port, "GET", "/healthz", timeout_seconds=2)
    finally:
        server.close()


def test_an_address_that_no_interface_has_names_none() -> None:
    assert device_of("127.0.0.1") == "lo"
    assert device_of("203.0.113.1") is None
    assert device_of(health_server.ANY_ADDRESS) is None


def test_connections_that_say_nothing_do_not_take_all_threads(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_server, "MOST_CONNECTIONS", 3)
    server = HealthServer(host=kit.HOST, port=0, view=StateMachine().view)
    server.start()
    before = threading.active_count()
    silent = [socket.create_connection((kit.HOST, server.port)) for _ in range(10)]
    try:
        # Those that are refused are closed at once.
        assert [one.recv(1) for one in silent[3:]] == [b""] * 7
        assert threading.active_count() - before == 3
        for one in silent[:3]:
            one.close()
        kit.eventually(lambda: fetched(kit.HOST, server.port))
    finally:
        for one in silent:
            one.close()
        server.close()


def fetched(host: str, port: int) -> bool:
    try:
        return fetch(host, port, "GET", "/healthz", timeout_seconds=2).status == 503
    except (OSError, http.client.HTTPException):
        return False


def test_an_agent_asks_its_engine_and_is_asked_where_the_load_balancer_reaches_the_node(
    kit: Any, imds: Any, tmp_path: Path
) -> None:
    imds.local_ipv4, device = own_address()
    told = {
        "FLEET": "chat",
        "REGION": "eu-west-1",
        "ASG_NAME": "spot-failover-chat",
        "IMAGE": "vllm/vllm-openai:v0.32.0",
        "MODEL": "some/model",
        "SERVED_MODEL_NAME": "model",
        "IMDS_ENDPOINT": imds.endpoint,
        "HEALTH_PORT": str(kit.free_port()),
        "SOCKET": str(tmp_path / "agent.sock"),
        "CONTAINER_CACHE": str(tmp_path / "cache"),
    }
    settings = Settings.from_environment({f"SPOT_FAILOVER_{name}": value for name, value in told.items()})
    agent = Agent(settings, log=Log(stream=io.StringIO()))
    listening = agent._health._server.socket
    bound = listening.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0").decode()
    assert (agent._api._host, listening.getsockname()[0], bound) == (imds.local_ipv4, imds.local_ipv4, device)
    agent._health._server.server_close()
    agent._control._server.server_close()
