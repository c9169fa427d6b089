"""What runs on an instance: a boot, an agent that drains, and Run Command's way to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any

from tests.simulation.compute import Ec2, Instance
from tests.simulation.network import client_error
from tests.simulation.scaling import moment
from tests.simulation.timeline import Timeline

FLEET_TAG = "spot-failover:fleet"
MOST_COMMANDED = 50
MOST_OUTPUT = 2500  # characters of a step's output (Systems Manager API reference, CommandPlugin)
LAST_SECOND = 1.0  # a drain ends so long before the deadline

Emit = Callable[[str, str, dict[str, Any]], None]


class Agent(StrEnum):
    """How much of a node's software works."""

    WELL = "well"
    UNKNOWN = "unknown"  # Systems Manager does not know it; the node drains by itself
    OFFLINE = "offline"  # listed, takes no command; the node drains by itself
    IDLE = "idle"  # takes the command, answers Success, does nothing: a node without our agent


@dataclass(frozen=True)
class NodePlan:
    """How the nodes of a fleet behave. Times are seconds; `failed_boots`: of so many, the first."""

    boot: float = 30.0
    drain: float = 20.0
    agent: Agent = Agent.WELL
    failed_boots: int = 0
    reports: bool = True  # whether its own events come through


@dataclass
class Node:
    """A node. Times are epoch seconds."""

    instance: Instance
    plan: NodePlan
    serving: bool = False
    managed: bool = False
    drain_began: float | None = None
    report: dict[str, Any] | None = None
    waiting: list[Callable[[dict[str, Any]], None]] = field(default_factory=list)


@dataclass
class Nodes:
    """The nodes of all fleets, and Systems Manager over them."""

    timeline: Timeline
    ec2: Ec2
    emit: Emit
    plans: dict[str, NodePlan] = field(default_factory=dict)  # by fleet
    complete: Callable[[str], None] = lambda _: None  # completes a launch hook
    abandon: Callable[[str], None] = lambda _: None
    sick: Callable[[str], None] = lambda _: None  # hears who does not pass its health checks any more
    nodes: dict[str, Node] = field(default_factory=dict)
    outputs: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    commands: dict[str, list[str]] = field(default_factory=dict)  # the nodes by command
    _commands: count[int] = field(default_factory=lambda: count(1))
    _boots: dict[str, int] = field(default_factory=dict)

    def serves(self, instance_id: str) -> bool:
        """Whether a node passes its health checks."""
        node = self.nodes.get(instance_id)
        return node is not None and node.serving and node.instance.alive

    def add(self, instance: Instance) -> Node:
        """Take over a node that is up."""
        plan = self.plans[instance.tags[FLEET_TAG]]
        node = Node(instance, plan, serving=True, managed=plan.agent is not Agent.UNKNOWN)
        self.nodes[instance.instance_id] = node
        return node

    def boot(self, instance: Instance) -> None:
        """Begin a node's boot, which ends with its launch hook completed or abandoned."""
        fleet = instance.tags.get(FLEET_TAG)
        if fleet is None:
            self.timeline.after(10.0, lambda: self.complete(instance.instance_id))
            return
        number = self._boots.get(fleet, 0)
        self._boots[fleet] = number + 1
        plan = self.plans[fleet]
        self.timeline.after(plan.boot, lambda: self._booted(instance, plan, fails=number < plan.failed_boots))

    def _booted(self, instance: Instance, plan: NodePlan, *, fails: bool) -> None:
        if not instance.alive:
            return
        path = {"kernel": 9.0, "fetch": plan.boot - 9.0} if plan.boot > 9.0 else {"fetch": plan.boot}
        boot = {"booted_at": _iso(instance.launched_at), "path": path, "phases": []}
        if fails:
            self.abandon(instance.instance_id)
            self._tell(instance, plan, "Boot Failed", phase="image", reason="too long", boot=boot)
            return
        self.add(instance)
        self.complete(instance.instance_id)
        self._tell(instance, plan, "Ready", boot=boot)

    def noticed(self, instance: Instance, *, heard: bool) -> None:
        """A notice shows in the instance's metadata: its agent looks there."""
        node = self.nodes.get(instance.instance_id)
        if heard and node and node.plan.agent is not Agent.IDLE:
            self.timeline.after(3.0, lambda: self.drain(node, "imds"))

    def drain(self, node: Node, trigger: str) -> None:
        """Begin a drain, or be in it already."""
        if node.drain_began is not None or not node.instance.alive:
            return
        node.drain_began, node.serving = self.timeline.now, False
        self.sick(node.instance.instance_id)
        end = self.timeline.now + node.plan.drain
        limit = node.instance.deadline
        self.timeline.at(
            end if limit is None else min(end, limit - LAST_SECOND), lambda: self._drained(node, trigger)
        )

    def _drained(self, node: Node, trigger: str) -> None:
        if not node.instance.alive or node.drain_began is None:
            return
        cut = self.timeline.now < node.drain_began + node.plan.drain
        node.report = {
            "instance_id": node.instance.instance_id,
            "trigger": trigger,
            "started_at": _iso(node.drain_began),
            "finished_at": _iso(self.timeline.now),
            "seconds": self.timeline.now - node.drain_began,
            "in_flight_at_start": 2,
            "finished": 1 if cut else 2,
            "cut": 1 if cut else 0,
            "engine_exit": "killed" if cut else "graceful",
            "outcome": "cut" if cut else "drained",
        }
        for tell in node.waiting:
            tell(node.report)
        self._tell(node.instance, node.plan, "Drained", outcome=node.report)

    def _tell(self, instance: Instance, plan: NodePlan, what: str, **detail: Any) -> None:
        if plan.reports and instance.alive:
            own = {
                "instance-id": instance.instance_id,
                "fleet": instance.tags[FLEET_TAG],
                "at": _iso(self.timeline.now),
            }
            self.emit("spot-failover.node", f"Spot Failover Node {what}", {**own, **detail})

    def send_command(
        self,
        DocumentName: str,
        InstanceIds: Sequence[str],
        Parameters: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> Any:
        """All or none: an instance that is not managed refuses the command."""
        if len(InstanceIds) > MOST_COMMANDED:
            raise client_error("SendCommand", "ValidationException", "at most 50 instances")
        nodes = [self.nodes.get(key) for key in InstanceIds]
        if any(node is None or not node.managed or not node.instance.alive for node in nodes):
            raise client_error("SendCommand", "InvalidInstanceId", "Instances not in a valid state")
        command_id = f"00000000-0000-4000-8000-{next(self._commands):012x}"
        self.commands[command_id] = list(InstanceIds)
        for node in nodes:
            if node is not None:
                self._deliver(command_id, DocumentName, node)
        return {"Command": {"CommandId": command_id, "DocumentName": DocumentName}}

    def _deliver(self, command_id: str, document: str, node: Node) -> None:
        def arrive() -> None:
            if not node.instance.alive or node.plan.agent is Agent.OFFLINE:
                return
            if node.plan.agent is Agent.IDLE:
                end(None)
                return
            node.waiting.append(end)
            if node.report:
                end(node.report)
            else:
                self.drain(node, "command")

        def end(report: dict[str, Any] | None) -> None:
            key = (command_id, node.instance.instance_id)
            if key in self.outputs:
                return
            output = json.dumps(report) + "\n" if report else ""
            self.outputs[key] = {"StandardOutputContent": output, "StandardErrorContent": ""}
            self.emit(
                "aws.ssm",
                "EC2 Command Invocation Status-change Notification",
                {
                    "command-id": command_id,
                    "document-name": document,
                    "instance-id": node.instance.instance_id,
                    "status": "Success",
                },
            )

        self.timeline.after(0.5, arrive)

    def get_command_invocation(self, CommandId: str, InstanceId: str, **_: Any) -> Any:
        """Known once the node has taken it."""
        output = self.outputs.get((CommandId, InstanceId))
        if output is None:
            raise client_error("GetCommandInvocation", "InvocationDoesNotExist", "")
        return {"CommandId": CommandId, "InstanceId": InstanceId, "Status": "Success", **output}

    def list_command_invocations(
        self, CommandId: str, Details: bool = False, MaxResults: int = 50, NextToken: str = "0", **_: Any
    ) -> Any:
        """A command's nodes; with details, what their steps printed, cut short."""
        if CommandId not in self.commands:
            raise client_error("ListCommandInvocations", "InvalidCommandId", "isn't valid")
        first, size = int(NextToken), min(MaxResults, 50)
        ids = self.commands[CommandId]
        more = {"NextToken": str(first + size)} if first + size < len(ids) else {}
        found = [self._invocation(CommandId, key, details=Details) for key in ids[first : first + size]]
        return {"CommandInvocations": found, **more}

    def _invocation(self, command_id: str, instance_id: str, *, details: bool) -> dict[str, Any]:
        output = self.outputs.get((command_id, instance_id))
        text = output["StandardOutputContent"][:MOST_OUTPUT] if output else ""
        status = "Success" if output else "InProgress"
        return {
            "CommandId": command_id,
            "InstanceId": instance_id,
            "Status": status,
            "CommandPlugins": [{"Name": "drain", "Status": status, "Output": text}] if details else [],
        }


def _iso(at: float) -> str:
    return moment(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")
