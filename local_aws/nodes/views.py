"""The routes `nodes`, `load-balancer-url`, `targets`: the machines as a test sees them, and acts on them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local_aws.auto_scaling.launches import FLEET_TAG, Launcher
from local_aws.auto_scaling.lifecycle import GroupLifecycle
from local_aws.load_balancing.balancers import LoadBalancing
from local_aws.load_balancing.proxy import Proxy
from local_aws.nodes import kernel_log
from local_aws.nodes.processes import pids_by_mark
from local_aws.nodes.registry import Node, Nodes
from local_aws.world import World


class Views:
    """Answers the routes."""

    def __init__(
        self, world: World, nodes: Nodes, lifecycle: GroupLifecycle, balancing: LoadBalancing, proxy: Proxy
    ) -> None:
        self._world = world
        self._nodes = nodes
        self._lifecycle = lifecycle
        self._balancing = balancing
        self._proxy = proxy

    def nodes(self) -> list[dict[str, Any]]:
        """Return every node there is or was."""
        nodes = self._nodes.all()
        if not nodes:
            return []
        pids = pids_by_mark(node.instance_id for node in nodes if not node.bare)
        with ThreadPoolExecutor(max_workers=min(16, len(nodes))) as pool:
            return list(pool.map(lambda node: self._view(node, pids.get(node.instance_id, set())), nodes))

    def _view(self, node: Node, pids: set[int]) -> dict[str, Any]:
        member = self._lifecycle.member(node.instance_id)
        return {
            "instance_id": node.instance_id,
            "fleet": node.fleet,
            "address": node.address,
            "state": node.state,
            "lifecycle_state": member.state.value if member else None,
            "target_states": self._balancing.targets.states_of(node.instance_id),
            "noticed_at": node.noticed_at,
            "deadline": node.deadline,
            "status": node.agent_status() if node.state == "running" else None,
            "pids": sorted(pids),
        }

    def load_balancer_url(self, fleet: str) -> dict[str, str]:
        """Return the URL of the listener that forwards to a fleet's group. Raises LookupError."""
        with self._world.lock:
            groups = [
                group
                for group in self._lifecycle.backend.autoscaling_groups.values()
                if {"Key": FLEET_TAG, "Value": fleet}.items() <= _tag(group, FLEET_TAG).items()
            ]
            arns = {arn for group in groups for arn in group.target_group_arns}
            listeners = [spec for spec in self._balancing.listeners() if arns & set(spec.target_groups)]
        for spec in listeners:
            url = self._proxy.url(spec.arn)
            if url is not None:
                return {"url": url}
        raise LookupError(f"no listener forwards to the fleet {fleet} (yet)")


def _tag(group: Any, key: str) -> dict[str, str]:
    return next((tag for tag in group.tags if tag["Key"] == key), {})


def add_routes(world: World, views: Views, launcher: Launcher) -> None:
    """Serve the views and `POST spot-capacity` {"available": bool}: has EC2 spot instances to give?"""

    def spot_capacity(given: Mapping[str, Any]) -> dict[str, bool]:
        launcher.spot_capacity = bool(given["available"])
        return {"available": launcher.spot_capacity}

    def bare_nodes(given: Mapping[str, Any]) -> dict[str, Any]:
        nodes, boot = views._nodes, given["boot_seconds"]
        nodes.bare_boot_seconds = None if boot is None else float(boot)
        nodes.bare_drain_seconds = float(given["drain_seconds"])
        return dict(given)

    world.route("POST", "bare-nodes", bare_nodes)
    world.route("GET", "nodes", lambda _: views.nodes())
    world.route("GET", "load-balancer-url", lambda given: views.load_balancer_url(str(given["fleet"])))
    world.route("GET", "targets", lambda _: views._balancing.targets.counts())
    world.route("POST", "spot-capacity", spot_capacity)
    kernel_log.add_routes(world, views._nodes)
