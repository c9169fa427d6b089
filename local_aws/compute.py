"""Puts the machines together: nodes, groups, load balancers, spot interruptions and Run Command."""

from __future__ import annotations

import threading
from functools import partial

from local_aws.auto_scaling import api as auto_scaling_api
from local_aws.auto_scaling.groups import AutoScaling
from local_aws.auto_scaling.launches import Launcher
from local_aws.auto_scaling.lifecycle import GroupLifecycle
from local_aws.endpoint import fast_answers, remembered_instances
from local_aws.engines.commands import MODEL_DIRECTORY, PREPARED_MODEL, engine_command, engine_environment
from local_aws.engines.tiny_model import ensure_tiny_model
from local_aws.load_balancing import balancers as load_balancing
from local_aws.load_balancing.balancers import LoadBalancing
from local_aws.load_balancing.proxy import Proxy
from local_aws.load_balancing.targets import Targets
from local_aws.nodes import instance_index
from local_aws.nodes import spot as ec2_spot
from local_aws.nodes import views as node_views
from local_aws.nodes.machine import EngineProcess
from local_aws.nodes.registry import Node, Nodes
from local_aws.run_command import api as run_command_api
from local_aws.run_command.agents import RunCommand
from local_aws.world import EngineKind, World

# The engine's port is the target group's traffic port, as infra deploys it.
_ENGINE_PORT = 8000


def install(world: World) -> None:
    """Install everything and start it; it ends with the world."""
    targets = Targets(world.timeline)
    nodes = Nodes(world, None if world.engine == "none" else partial(_engine, world.engine))

    def address_of(instance_id: str) -> str | None:
        node = nodes.get(instance_id)
        return node.address if node else None

    balancing = LoadBalancing(world, targets, address_of)
    lifecycle = GroupLifecycle(world, balancing, booted=nodes.bare_and_booted)
    launcher = Launcher(world, nodes)
    groups = AutoScaling(world, launcher, lifecycle, targets)
    interruptions = ec2_spot.SpotInterruptions(world, nodes)
    proxy = Proxy(targets, f"{world.address_prefix}.1", health_of=nodes.health)

    instance_index.install()
    fast_answers.install()
    remembered_instances.install()
    load_balancing.apply_overrides(balancing)
    auto_scaling_api.apply_overrides(groups)
    ec2_spot.apply_overrides(world, nodes, targets)
    ec2_spot.add_routes(world, interruptions)
    run_command_api.apply_overrides(world, RunCommand(world, nodes))
    node_views.add_routes(world, node_views.Views(world, nodes, lifecycle, balancing, proxy), launcher)

    proxy.start()
    stopped = threading.Event()
    threading.Thread(target=groups.run, name="auto-scaling", daemon=True).start()
    threading.Thread(
        target=balancing.watch, args=(proxy.apply, stopped), name="listeners", daemon=True
    ).start()

    def stop() -> None:
        stopped.set()
        interruptions.stop()
        groups.stop()
        nodes.end_all()
        proxy.stop()

    world.on_stop(stop)


def _engine(kind: EngineKind, node: Node) -> EngineProcess:
    if kind == "real":
        ensure_tiny_model()
    return EngineProcess(
        command=engine_command(kind, host=node.address, port=_ENGINE_PORT, model=PREPARED_MODEL),
        environment=engine_environment(kind),
        model=str(MODEL_DIRECTORY),
    )
