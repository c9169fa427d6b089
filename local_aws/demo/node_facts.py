"""What the demo reads of a node: the local AWS's view, the agent's /status, the engine's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_node_bootstrap.node_agent.errors import EngineAnswerError
from gpu_node_bootstrap.node_agent.vllm_api import EngineApi
from infra.names import ENGINE_PORT
from local_aws.control_client import NodeView
from local_aws.demo.capacity import HEALTHY
from local_aws.demo.progress import NodeLine

_WORDS = {
    "starting": "starting",
    "ready": "serving",
    "draining": "draining",
    "drained": "empty",
    "failed": "failed",
}


def is_healthy(node: NodeView) -> bool:
    """Whether the load balancer may send the node requests."""
    return node.state == "running" and HEALTHY in node.target_states.values()


def requests_on(node: NodeView) -> int | None:
    """Ask the node's engine how many requests it holds, running and waiting; None if it does not say."""
    if node.state != "running":
        return None
    try:
        return EngineApi(host=node.address, port=ENGINE_PORT, served_model_name="").load().in_flight
    except EngineAnswerError:
        return None


def engine_start_seconds(node: NodeView) -> float | None:
    """Return how long the node's engine took from its process's start to its first completion."""
    seconds = _engine(node).get("start_seconds")
    return None if seconds is None else float(seconds)


def engine_start_of(nodes: list[NodeView], instance_id: str) -> float | None:
    """Return one node's `engine_start_seconds`; None if there is no such node."""
    return next((engine_start_seconds(node) for node in nodes if node.instance_id == instance_id), None)


def node_line(node: NodeView, *, in_flight: int | None, now: float) -> NodeLine:
    """Return the node as the live view shows it."""
    return NodeLine(
        instance_id=node.instance_id,
        address=node.address,
        state=_state(node),
        in_flight=in_flight,
        seconds_left=None if node.deadline is None else node.deadline - now,
    )


def _state(node: NodeView) -> str:
    if node.state != "running":
        return "gone"
    state = str((node.status or {}).get("state", ""))
    if state == "ready" and not is_healthy(node):
        return "ready, not yet in the load balancer" if node.noticed_at is None else "draining"
    return _WORDS.get(state, "booting" if node.noticed_at is None else "empty")


def _engine(node: NodeView) -> Mapping[str, Any]:
    engine = (node.status or {}).get("engine")
    return engine if isinstance(engine, Mapping) else {}
