"""Local nodes: each instance that a group launches is real processes on an address of its own."""

from __future__ import annotations

import base64
import itertools
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from local_aws.nodes import bare
from local_aws.nodes import processes as node_processes
from local_aws.nodes.agent_status import read_status
from local_aws.nodes.imds import CredentialsSource, InstanceIdentity, MetadataService
from local_aws.nodes.machine import (
    EngineProcess,
    NodeFolders,
    make_folders,
    node_environment,
    write_local_settings,
)
from local_aws.world import World

# .1 is the load balancer's, .254 claims the block.
_FIRST_HOST, _LAST_HOST = 10, 250

NodeState = Literal["running", "stopped", "terminated"]


class NoFreeNodeAddressError(RuntimeError):
    """More nodes run at once than the block has addresses."""


@dataclass(frozen=True)
class LaunchOrder:
    """What Auto Scaling knows of an instance it launches. `user_data` is base64, as in the template."""

    identity: InstanceIdentity
    fleet: str | None
    user_data: str | None
    credentials: CredentialsSource | None


@dataclass
class Node:
    """One node. `state` changes once; after it has, nothing is started on the node any more."""

    instance_id: str
    fleet: str | None
    address: str
    folders: NodeFolders
    imds: MetadataService
    launched_at: float
    state: NodeState = "running"
    noticed_at: float | None = None
    deadline: float | None = None
    bare: bool = False
    """No process stands behind it; see `bare`."""
    draining: bool = False
    """Of a bare node only: it was told to drain, or saw its notice. Others answer for themselves."""
    environment: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def spawn(
        self, command: list[str], *, cwd: Path, output: Any, error: Any = subprocess.STDOUT, **extra: str
    ) -> subprocess.Popen[bytes] | None:
        """Start a process with `extra` in its environment; None if the node does not run any more."""
        with self.lock:
            if self.state != "running":
                return None
            environment = {**self.environment, **extra}
            return node_processes.spawn(command, environment=environment, cwd=cwd, output=output, error=error)

    def pids(self) -> set[int]:
        """Return the live processes of the node."""
        if self.bare:
            return set()
        return node_processes.marked_pids(self.instance_id)

    def agent_status(self) -> dict[str, Any] | None:
        """Return the node agent's status, or None if it does not answer."""
        if self.bare:
            return None
        return read_status(self.folders.agent_socket)


class Nodes:
    """All nodes there are or were. Without an `engine` they are bare."""

    def __init__(self, world: World, engine: Callable[[Node], EngineProcess] | None) -> None:
        self._world = world
        self._engine = engine
        self._nodes: dict[str, Node] = {}
        self._hosts = itertools.cycle(range(_FIRST_HOST, _LAST_HOST + 1))
        self._bare = itertools.count(1)
        self._lock = threading.Lock()
        self.bare_boot_seconds: float | None = 0.0
        """How long bare nodes stay at their launch hook, as nodes that still boot; None: for ever."""
        self.bare_drain_seconds = 0.0
        """How long their drains take."""

    def get(self, instance_id: str) -> Node | None:
        """Return a node by its instance id; None for an instance that is no node of ours."""
        return self._nodes.get(instance_id)

    def all(self) -> list[Node]:
        """Return all nodes in the order of their launch."""
        return list(self._nodes.values())

    def claim_address(self) -> str:
        """Return the next node's address. A dead node's one is used again as late as possible."""
        if self._engine is None:
            return bare.address(next(self._bare))
        with self._lock:
            taken = {node.address for node in self._nodes.values() if node.state == "running"}
            for _ in range(_LAST_HOST - _FIRST_HOST + 1):
                address = f"{self._world.address_prefix}.{next(self._hosts)}"
                if address not in taken:
                    return address
        raise NoFreeNodeAddressError(f"all addresses of {self._world.address_prefix}.0/24 are taken")

    def launch(self, order: LaunchOrder) -> Node:
        """Make a node and boot it in the background."""
        if self._engine is None:
            return self._launch_bare(order)
        me = order.identity
        imds = MetadataService(me, order.credentials)
        imds.start()
        node = Node(
            instance_id=me.instance_id,
            fleet=order.fleet,
            address=me.address,
            folders=make_folders(self._world.state_dir / "nodes" / me.instance_id),
            imds=imds,
            launched_at=time.time(),
        )
        node.environment = node_environment(
            folders=node.folders,
            instance_id=me.instance_id,
            endpoint_url=self._world.endpoint_url,
            imds_endpoint=imds.endpoint,
            launched_at=node.launched_at,
            process_mark=self._world.process_mark,
        )
        self._add(node)
        if order.user_data:
            threading.Thread(
                target=self._boot,
                args=(node, order.user_data, self._engine),
                name=f"boot-{me.instance_id}",
                daemon=True,
            ).start()
        return node

    def _launch_bare(self, order: LaunchOrder) -> Node:
        """Make a node of nothing but this record: its folders do not exist, its metadata is not served."""
        me = order.identity
        home = self._world.state_dir / "nodes" / me.instance_id
        node = Node(
            instance_id=me.instance_id,
            fleet=order.fleet,
            address=me.address,
            folders=NodeFolders(home=home, root=home / "root"),
            imds=MetadataService(me, order.credentials),
            launched_at=time.time(),
            bare=True,
        )
        self._add(node)
        return node

    def _add(self, node: Node) -> None:
        with self._lock:
            self._nodes[node.instance_id] = node
        self._world.timeline.record(
            "node_started", instance_id=node.instance_id, fleet=node.fleet, address=node.address
        )

    def bare_and_booted(self, instance_id: str) -> bool:
        """Whether a node is bare, and its boot over; others say it themselves."""
        node = self._nodes.get(instance_id)
        if node is None or not node.bare or self.bare_boot_seconds is None:
            return False
        return time.time() >= node.launched_at + self.bare_boot_seconds

    def health(self, instance_id: str) -> bool | None:
        """Return what a bare node's health check finds; None for one that has to be asked."""
        node = self._nodes.get(instance_id)
        if node is None or not node.bare:
            return None
        return node.state == "running" and not node.draining

    def _boot(self, node: Node, user_data: str, engine: Callable[[Node], EngineProcess]) -> None:
        write_local_settings(
            folders=node.folders,
            address=node.address,
            imds_endpoint=node.imds.endpoint,
            engine=engine(node),
        )
        script = node.folders.home / "user-data"
        script.write_bytes(base64.b64decode(user_data))
        script.chmod(0o700)
        began = time.monotonic()
        with node.folders.console.open("ab") as console:
            # As cloud-init does: the script's own first line says what runs it.
            process = node.spawn([str(script)], cwd=node.folders.root, output=console)
        status = None if process is None else process.wait()
        self._world.timeline.record(
            "node_booted",
            instance_id=node.instance_id,
            exit_status=status,
            seconds=round(time.monotonic() - began, 3),
        )

    def end(self, instance_id: str, *, state: Literal["stopped", "terminated"]) -> None:
        """Kill a node's processes at once, as when the machine is gone. Ending it twice is nothing."""
        node = self._nodes.get(instance_id)
        if node is None:
            return
        with node.lock:
            was, node.state = node.state, state
        if was != "running":
            return
        began = time.monotonic()
        node.imds.stop()
        alive = node.pids()
        node_processes.send_signal(alive, signal.SIGKILL)
        left = set() if node.bare else node_processes.kill_marked(instance_id)
        self._world.timeline.record(
            "node_killed",
            instance_id=instance_id,
            state=state,
            processes=len(alive),
            left=sorted(left),
            seconds=round(time.monotonic() - began, 3),
        )

    def end_all(self) -> None:
        """End every node: the local AWS stops."""
        running = [node.instance_id for node in self.all() if node.state == "running" and not node.bare]
        threads = [
            threading.Thread(target=self.end, args=(i,), kwargs={"state": "terminated"}) for i in running
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
