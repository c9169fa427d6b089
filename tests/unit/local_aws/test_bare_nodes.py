"""What is answered for a node that is no process."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from spot_failover.outcomes import Outcome
from track_incident.drain_report import parse_drain_report

from local_aws.nodes import bare
from local_aws.nodes.imds import InstanceIdentity
from local_aws.nodes.registry import LaunchOrder, Node, Nodes
from local_aws.run_command.agents import RunCommand
from local_aws.run_command.documents import Step
from local_aws.run_command.invocations import Command, Invocation, Status
from local_aws.world import World

NODE, OTHER = "i-0123456789abcdef0", "i-0fedcba9876543210"
SCRIPT = (
    f"exec spot-failover-node drain --deadlines '{OTHER}@2026-11-23T13:40:00Z,{NODE}@2026-11-23T13:40:07Z'\n"
)


def test_drain_is_told_from_any_other_command() -> None:
    assert bare.is_drain(SCRIPT)
    assert not bare.is_drain("echo hello\n")


def test_each_node_finds_its_own_deadline_in_a_command_for_many() -> None:
    assert bare.deadline_in(SCRIPT, NODE) == datetime.fromisoformat("2026-11-23T13:40:07Z").timestamp()
    assert bare.deadline_in(SCRIPT, "i-00000000000000000") is None


def test_report_is_one_that_the_control_plane_believes() -> None:
    text = bare.drain_report(SCRIPT, NODE, started_at=1_795_400_000.0, finished_at=1_795_400_000.25)
    report = parse_drain_report(text)
    assert report is not None
    assert report.outcome is Outcome.DRAINED
    assert report.detail["cut"] == 0
    assert report.detail["seconds"] == 0.25
    assert json.loads(text)["deadline"] == "2026-11-23T13:40:07.000Z"


def test_drain_without_a_deadline_has_the_notices_own() -> None:
    text = bare.drain_report("spot-failover-node drain", NODE, started_at=0.0, finished_at=0.0)
    assert json.loads(text)["deadline"] == "1970-01-01T00:02:00.000Z"


def test_addresses_are_nobodys_and_do_not_repeat() -> None:
    addresses = [bare.address(number) for number in (1, 255, 256, 65_535, 65_536, 200_000)]
    assert len(set(addresses)) == len(addresses)
    assert all(ipaddress.ip_address(each) in ipaddress.ip_network("100.64.0.0/10") for each in addresses)


class Fleet:
    """Bare nodes and the agents of them all, without an AWS around them."""

    def __init__(self, home: Path) -> None:
        self.world = World(
            region="us-east-1",
            account_id="123456789012",
            endpoint_url="http://localhost:1",
            state_dir=home,
            engine="none",
            address_prefix="127.0.0",
            process_mark={},
        )
        self.world.emit_event = lambda **_: None
        self.nodes = Nodes(self.world, None)
        self.agents = RunCommand(self.world, self.nodes)

    def launch(self, instance_id: str) -> Node:
        identity = InstanceIdentity(
            instance_id=instance_id,
            instance_type="g6e.xlarge",
            ami_id="ami-1",
            region="us-east-1",
            zone="us-east-1a",
            account_id="123456789012",
            address=self.nodes.claim_address(),
            life_cycle="spot",
            tags=None,
            role_name=None,
            instance_profile_arn=None,
            tokens_required=True,
        )
        return self.nodes.launch(LaunchOrder(identity, fleet="chat", user_data=None, credentials=None))

    def send(self, node: Node, script: str) -> Invocation:
        step = Step(name="run", script=script, timeout_seconds=1.0, working_directory=None)
        command = Command("Drain", "1", {}, [step], "", timeout_seconds=30, targets=[])
        self.agents.send(command, [node])
        return command.invocations[node.instance_id]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def until(what: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 5
    while not what():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def test_drain_takes_its_time_and_other_commands_are_not_held_up(fleet: Fleet) -> None:
    fleet.nodes.bare_drain_seconds = 0.3
    node, other = fleet.launch(NODE), fleet.launch(OTHER)
    assert fleet.nodes.health(NODE) is True
    drain = fleet.send(node, SCRIPT)
    hello = fleet.send(other, "echo hello\n")
    until(lambda: hello.status is Status.SUCCESS)
    assert drain.status is Status.IN_PROGRESS
    assert (fleet.nodes.health(NODE), fleet.nodes.health(OTHER)) == (False, True)
    until(lambda: drain.status is Status.SUCCESS)
    assert json.loads(drain.output)["seconds"] >= 0.3
    assert hello.output == ""


def test_node_that_dies_in_its_drain_never_reports(fleet: Fleet) -> None:
    fleet.nodes.bare_drain_seconds = 0.1
    drain = fleet.send(fleet.launch(NODE), SCRIPT)
    until(lambda: drain.status is Status.IN_PROGRESS)
    fleet.nodes.end(NODE, state="terminated")
    assert fleet.nodes.health(NODE) is False
    until(lambda: drain.status is Status.TIMED_OUT)
    assert (drain.details, drain.output) == ("Execution Timed Out", "")


def test_boot_is_over_after_its_time_or_never(fleet: Fleet) -> None:
    fleet.launch(NODE)
    assert fleet.nodes.bare_and_booted(NODE)
    fleet.nodes.bare_boot_seconds = 60.0
    assert not fleet.nodes.bare_and_booted(NODE)
    fleet.nodes.bare_boot_seconds = None
    assert not fleet.nodes.bare_and_booted(NODE)


def test_nodes_that_are_none_of_ours_are_asked_themselves(fleet: Fleet) -> None:
    assert fleet.nodes.health("i-00000000000000000") is None
    assert not fleet.nodes.bare_and_booted("i-00000000000000000")
