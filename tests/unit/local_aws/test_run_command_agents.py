"""A node's Run Command agent ends with its node, and no command is lost over it."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from local_aws.run_command import agents
from local_aws.run_command.agents import RunCommand
from local_aws.run_command.invocations import Command, Status


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    monkeypatch.setattr(agents, "LOOKS_UP_SECONDS", 0.02)
    monkeypatch.setattr(RunCommand, "_tell", lambda *_: None)
    nothing: Any = None
    return RunCommand(nothing, nothing)


def command() -> Command:
    return Command(
        document_name="document",
        document_version="1",
        parameters={},
        steps=[],
        comment="",
        timeout_seconds=30,
        targets=[],
    )


def eventually(what: Any) -> None:
    limit = time.monotonic() + 10
    while not what():
        assert time.monotonic() < limit
        time.sleep(0.01)


def agents_of(node: Any) -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == f"ssm-agent-{node.instance_id}"]


def test_agent_stays_while_its_node_runs_and_ends_with_it(run_command: RunCommand) -> None:
    node: Any = SimpleNamespace(instance_id="i-ends", bare=False, state="running")
    sent = command()
    run_command.send(sent, [node])
    eventually(lambda: sent.invocations["i-ends"].status is Status.SUCCESS)
    time.sleep(0.1)
    assert agents_of(node)
    node.state = "terminated"
    eventually(lambda: not agents_of(node))


def test_command_for_a_node_whose_agent_has_ended_is_taken_all_the_same(run_command: RunCommand) -> None:
    node: Any = SimpleNamespace(instance_id="i-late", bare=False, state="terminated")
    for _ in range(3):
        sent = command()
        sent.timeout_seconds = 0
        run_command.send(sent, [node])
        eventually(lambda: sent.invocations["i-late"].details == "Delivery Timed Out")  # noqa: B023
        eventually(lambda: not agents_of(node))
