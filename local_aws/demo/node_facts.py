"""What the demo reads of a node: the local AWS's view, the agent's status, the engine's metrics."""

from __future__ import annotations

from collections.abc import Iterable

from gpu_node_bootstrap.node_agent.errors import EngineAnswerError
from gpu_node_bootstrap.node_agent.vllm_api import EngineApi
from infra.names import ENGINE_PORT
from local_aws.control_client import NodeView
from local_aws.demo.boots import Boot, boot_from_status
from local_aws.demo.capacity import HEALTHY
from local_aws.demo.progress import NodeLine

_WORDS = {
    "starting": "starting",
    "ready": "serving",
    "recovering": "recovering",
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


def boot_of(nodes: Iterable[NodeView], instance_id: str | None) -> Boot | None:
    """Return how a node booted; None if there is no such node, or it has not told."""
    return next((boot_from_status(node.status) for node in nodes if node.instance_id == instance_id), None)


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
