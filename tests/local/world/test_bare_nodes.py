"""Nodes that are no processes: in service and healthy at once, drained at once, gone at their deadline."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.control_plane.fleets import Fleets, make_fleets, spread_over
from local_aws.session import LocalAws

NODES = 60
DRAIN = {
    "schemaVersion": "2.2",
    "parameters": {"Deadlines": {"type": "String"}},
    "mainSteps": [
        {
            "action": "aws:runShellScript",
            "name": "drain",
            "inputs": {"runCommand": ["spot-failover-node drain --deadlines '{{ Deadlines }}'"]},
        }
    ],
}


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleets]:
    with LocalAws(tmp_path_factory.mktemp("bare"), engine="none") as aws:
        made = make_fleets(aws, fleets=2, nodes_each=NODES // 2)
        made.whole(NODES)
        yield made


def test_nodes_serve_without_a_process_or_a_folder_of_their_own(fleets: Fleets) -> None:
    nodes = fleets.serving()
    assert len(nodes) == NODES
    assert {node.fleet for node in nodes} == set(fleets.names)
    assert not [node for node in nodes if node.pids or node.status]
    assert not (Path(fleets.aws.state_dir) / "nodes").exists()


def test_one_command_drains_many_nodes_and_each_reports_its_own_deadline(
    fleets: Fleets, eventually: Callable[..., Any]
) -> None:
    ssm = fleets.aws.client("ssm")
    ssm.create_document(Name="Drain", DocumentType="Command", Content=json.dumps(DRAIN))
    eventually(lambda: len(ssm.describe_instance_information()["InstanceInformationList"]) >= NODES)
    chosen = spread_over(fleets.serving(), 50)
    deadlines = {key: f"2026-11-23T13:40:{number:02}Z" for number, key in enumerate(chosen)}
    command = ssm.send_command(
        DocumentName="Drain",
        InstanceIds=chosen,
        Parameters={"Deadlines": [",".join(f"{key}@{at}" for key, at in deadlines.items())]},
    )["Command"]["CommandId"]

    def ended() -> list[dict[str, Any]]:
        found = ssm.list_command_invocations(CommandId=command, Details=True)["CommandInvocations"]
        return found if {each["Status"] for each in found} == {"Success"} else []

    reports = {
        each["InstanceId"]: json.loads(each["CommandPlugins"][0]["Output"]) for each in eventually(ended)
    }
    assert {key: report["deadline"] for key, report in reports.items()} == {
        key: at.replace("Z", ".000Z") for key, at in deadlines.items()
    }


def test_nodes_interrupted_together_end_together_and_are_replaced(
    fleets: Fleets, eventually: Callable[..., Any]
) -> None:
    chosen = spread_over(fleets.serving(), 6)
    began = time.time()
    times = fleets.aws.control.interrupt_all(chosen, notice_seconds=2)
    assert len(times) == 6
    assert all(began <= at <= began + 1 for at in times)

    def ended() -> bool:
        states = {node.instance_id: node.state for node in fleets.aws.control.nodes()}
        return {states[key] for key in chosen} == {"terminated"}

    eventually(ended)
    assert time.time() - began >= 2
    group = fleets.aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"][0]
    assert group["DesiredCapacity"] == NODES // 2
    eventually(lambda: len(_members(fleets)) == NODES and not _members(fleets) & set(chosen))


def test_notice_for_a_node_that_has_one_is_refused_and_the_others_stand(fleets: Fleets) -> None:
    first, second = spread_over(fleets.serving(), 2)
    fleets.aws.control.interrupt_all([first], notice_seconds=600)
    with pytest.raises(Exception, match="has its notice already"):
        fleets.aws.control.interrupt_all([second, first], notice_seconds=600)
    assert {n.instance_id for n in fleets.aws.control.nodes() if n.noticed_at} >= {first, second}


def test_node_that_is_kept_from_booting_stays_at_its_launch_hook(
    fleets: Fleets, eventually: Callable[..., Any]
) -> None:
    autoscaling, name = fleets.aws.client("autoscaling"), fleets.names[0]
    autoscaling.put_lifecycle_hook(
        AutoScalingGroupName=name,
        LifecycleHookName="ready",
        LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
        HeartbeatTimeout=600,
        DefaultResult="ABANDON",
    )
    fleets.aws.control.bare_nodes(boot_seconds=None)
    autoscaling.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=NODES // 2 + 1)
    eventually(lambda: "Pending:Wait" in _states(fleets).values())
    fleets.aws.control.bare_nodes()
    eventually(lambda: "Pending:Wait" not in _states(fleets).values())
    assert len(_members(fleets)) == NODES + 1


def _states(fleets: Fleets) -> dict[str, str]:
    groups = fleets.aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    return {each["InstanceId"]: each["LifecycleState"] for group in groups for each in group["Instances"]}


def _members(fleets: Fleets) -> set[str]:
    return set(_states(fleets))
