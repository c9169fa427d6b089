"""Run Command: each node's agent takes one command after another and runs it with the node's tools."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from local_aws.auto_scaling.lifecycle import emit
from local_aws.nodes import bare
from local_aws.nodes.registry import Node, Nodes
from local_aws.run_command.documents import Step
from local_aws.run_command.invocations import (
    Command,
    Invocation,
    Status,
    command_event,
    invocation_event,
)
from local_aws.world import World

# A fresh instance's agent needs some seconds (on AWS up to minutes) before Systems Manager knows it.
REGISTERS_AFTER_SECONDS = 2.0
# An idle agent's look at whether its node is still there.
LOOKS_UP_SECONDS = 5.0
AGENT_VERSION = "3.3.2746.0"
# What the agent reports for a step that ran out of time (amazon-ssm-agent: exit code of a timeout).
_TIMED_OUT_CODE = 137
_POLL_SECONDS = 0.05


class RunCommand:
    """The commands there are, and the agents that run them."""

    def __init__(self, world: World, nodes: Nodes) -> None:
        self._world = world
        self._nodes = nodes
        self._lock = threading.Lock()
        self._queues: dict[str, queue.SimpleQueue[Invocation]] = {}
        self._bare: queue.SimpleQueue[tuple[Node, Invocation]] = queue.SimpleQueue()
        self._draining: deque[tuple[float, Node, Invocation]] = deque()
        """Drains of bare nodes with the times at which they end, the earliest first."""
        threading.Thread(target=self._bare_agents, name="ssm-agents-bare", daemon=True).start()
        self.commands: dict[str, Command] = {}

    def managed(self, instance_id: str) -> Node | None:
        """Return a node whose agent is online, or None."""
        node = self._nodes.get(instance_id)
        if node is None or node.state != "running":
            return None
        return node if time.time() >= node.launched_at + REGISTERS_AFTER_SECONDS else None

    def managed_nodes(self) -> list[Node]:
        """Return all nodes whose agents are online."""
        return [node for node in self._nodes.all() if self.managed(node.instance_id) is not None]

    def send(self, command: Command, nodes: list[Node]) -> None:
        """Queue a command for the agents of some nodes."""
        for node in nodes:
            command.invocations[node.instance_id] = Invocation(command, node.instance_id)
        self.commands[command.command_id] = command
        for node in nodes:
            invocation = command.invocations[node.instance_id]
            self._tell(invocation)
            if node.bare:
                self._bare.put((node, invocation))
            else:
                self._hand_over(node, invocation)

    def cancel(self, command: Command, instance_ids: list[str] | None) -> None:
        """Ask for the end of a command's invocations; one that runs is ended by its agent."""
        for invocation in command.invocations.values():
            if instance_ids is None or invocation.instance_id in instance_ids:
                invocation.cancelled = True

    def _hand_over(self, node: Node, invocation: Invocation) -> None:
        """Queue a command for a node's agent, or for who speaks for it once the node is gone."""
        with self._lock:
            waiting = self._queues.get(node.instance_id)
            if waiting is None:
                waiting = self._queues[node.instance_id] = queue.SimpleQueue()
                name = f"ssm-agent-{node.instance_id}"
                threading.Thread(target=self._agent, args=(node, waiting), name=name, daemon=True).start()
            waiting.put(invocation)

    def _agent(self, node: Node, waiting: queue.SimpleQueue[Invocation]) -> None:
        while True:
            try:
                invocation = waiting.get(timeout=LOOKS_UP_SECONDS)
            except queue.Empty:
                if self._has_ended(node, waiting):
                    return
            else:
                self._take(node, invocation, self._run)

    def _has_ended(self, node: Node, waiting: queue.SimpleQueue[Invocation]) -> bool:
        """Say whether an agent may go, as its node has; a later command would start another."""
        with self._lock:
            if node.state == "running" or not waiting.empty():
                return False
            del self._queues[node.instance_id]
            return True

    def _bare_agents(self) -> None:
        """Be the agents of all bare nodes: theirs are commands that nobody has to run."""
        while True:
            try:
                self._take(*self._bare.get(timeout=self._until_a_drain_ends()), self._begin_bare)
            except queue.Empty:
                self._end_bare(*self._draining.popleft()[1:])

    def _until_a_drain_ends(self) -> float | None:
        return max(0.0, self._draining[0][0] - time.time()) if self._draining else None

    def _begin_bare(self, node: Node, invocation: Invocation) -> None:
        self._begin(invocation)
        if bare.is_drain(invocation.script):
            node.draining = True
            self._draining.append((time.time() + self._nodes.bare_drain_seconds, node, invocation))
        else:
            self._end_bare(node, invocation)

    def _end_bare(self, node: Node, invocation: Invocation) -> None:
        """End a bare node's command as its agent would, if it is still there."""
        began = invocation.started_at or time.time()
        if invocation.cancelled:
            self._finish(invocation, Status.CANCELLED, "Cancelled")
        elif node.state != "running":
            self._later(invocation, began + invocation.seconds, "Execution Timed Out")
        else:
            if bare.is_drain(invocation.script):
                invocation.output = bare.drain_report(
                    invocation.script, node.instance_id, started_at=began, finished_at=time.time()
                )
            invocation.response_code = 0
            self._finish(invocation, Status.SUCCESS, "Success")

    def _take(self, node: Node, invocation: Invocation, run: Callable[[Node, Invocation], None]) -> None:
        if invocation.cancelled:
            self._finish(invocation, Status.CANCELLED, "Cancelled")
        elif time.time() > invocation.command.expires_at:
            self._finish(invocation, Status.TIMED_OUT, "Delivery Timed Out")
        elif node.state != "running":
            # The agent is gone with its machine: Systems Manager waits until the delivery's time is up.
            self._later(invocation, invocation.command.expires_at, "Delivery Timed Out")
        else:
            run(node, invocation)

    def _begin(self, invocation: Invocation) -> None:
        invocation.started_at = time.time()
        invocation.status, invocation.details = Status.IN_PROGRESS, "In Progress"
        # The first step's name: events and descriptions show it while the command runs.
        invocation.plugin = invocation.command.steps[0].name if invocation.command.steps else ""
        self._tell(invocation)

    def _run(self, node: Node, invocation: Invocation) -> None:
        self._begin(invocation)
        assert invocation.started_at is not None
        for number, step in enumerate(invocation.command.steps):
            invocation.plugin = step.name
            status, details = self._run_step(node, invocation, number, step)
            if status is None:
                self._later(invocation, invocation.started_at + invocation.seconds, "Execution Timed Out")
                return
            if status is not Status.SUCCESS:
                self._finish(invocation, status, details)
                return
        self._finish(invocation, Status.SUCCESS, "Success")

    def _run_step(
        self, node: Node, invocation: Invocation, number: int, step: Step
    ) -> tuple[Status | None, str]:
        """Run one step; the status is None if the node died meanwhile, and nobody is left to report."""
        folder = node.folders.root / "var/lib/amazon/ssm" / invocation.command.command_id / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        script = folder / "_script.sh"
        script.write_text(step.script)
        script.chmod(0o700)
        output, error = folder / "stdout", folder / "stderr"
        with output.open("wb") as out, error.open("wb") as err:
            process = node.spawn(
                _interpreter(step.script, script),
                cwd=Path(step.working_directory) if step.working_directory else node.folders.root,
                output=out,
                error=err,
                AWS_SSM_INSTANCE_ID=node.instance_id,
                AWS_SSM_REGION_NAME=self._world.region,
            )
        ended = _wait(process, invocation, step.timeout_seconds)
        if node.state != "running" or process is None:
            return None, ""
        invocation.output += output.read_text(errors="replace")
        invocation.error += error.read_text(errors="replace")
        invocation.response_code = process.returncode if ended is Status.SUCCESS else _TIMED_OUT_CODE
        if ended is Status.SUCCESS and process.returncode:
            return Status.FAILED, "Failed"
        return ended, {Status.TIMED_OUT: "Execution Timed Out"}.get(ended, ended.value)

    def _later(self, invocation: Invocation, at: float, details: str) -> None:
        timer = threading.Timer(
            max(0.0, at - time.time()), self._finish, (invocation, Status.TIMED_OUT, details)
        )
        timer.daemon = True
        timer.start()

    def _finish(self, invocation: Invocation, status: Status, details: str) -> None:
        invocation.ended_at = time.time()
        invocation.status, invocation.details = status, details
        self._tell(invocation)

    def _tell(self, invocation: Invocation) -> None:
        command = invocation.command
        self._world.timeline.record(
            "command",
            command_id=command.command_id,
            document=command.document_name,
            instance_id=invocation.instance_id,
            status=invocation.status.value,
            details=invocation.details,
            response_code=invocation.response_code,
        )
        # AWS emits no event for Pending.
        if invocation.status is Status.PENDING:
            return
        world = self._world
        emit(world, invocation_event(invocation, region=world.region, account_id=world.account_id))
        if command.told is not command.status:
            command.told = command.status
            emit(world, command_event(command))


def _interpreter(text: str, script: Path) -> list[str]:
    # The agent runs `sh -c SCRIPT`, and sh is bash in POSIX mode on Amazon Linux; a first line of #!
    # prevails.
    return [str(script)] if text.startswith("#!") else ["bash", "--posix", str(script)]


def _wait(process: subprocess.Popen[bytes] | None, invocation: Invocation, seconds: float) -> Status:
    """Wait for a step; end it when its time is over or it was cancelled."""
    if process is None:
        return Status.FAILED
    give_up_at = time.monotonic() + seconds
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_POLL_SECONDS)
            return Status.SUCCESS
        if invocation.cancelled or time.monotonic() > give_up_at:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Status.CANCELLED if invocation.cancelled else Status.TIMED_OUT
