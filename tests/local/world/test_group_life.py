"""Launching, hooks, detaching and replacing, as the API shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

EVENTS = Path(__file__).resolve().parents[2] / "data" / "events"


@pytest.fixture(scope="module")
def fleet(make_fleet: Callable[..., Any], eventually: Callable[..., Any]) -> Any:
    made = make_fleet(2)
    eventually(lambda: len(made.healthy()) == 2)
    return made


def runs(pid: int) -> bool:
    """Say whether a process runs; a dead one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_group_launches_spot_nodes_that_serve_behind_the_load_balancer(fleet: Any) -> None:
    described = fleet.client("ec2").describe_instances(
        Filters=[{"Name": "tag:spot-failover:fleet", "Values": [fleet.name]}]
    )
    instances = [i for r in described["Reservations"] for i in r["Instances"]]
    assert {i["InstanceLifecycle"] for i in instances} == {"spot"}
    assert {i["InstanceType"] for i in instances} == {"g5.xlarge", "g6.xlarge"}
    assert len({i["SubnetId"] for i in instances}) == 2
    for instance in instances:
        tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
        assert tags["aws:autoscaling:groupName"] == fleet.name
    answers = {fleet.get("/who")[1] for _ in range(8)}
    assert answers == {i["PrivateIpAddress"] for i in instances}


def test_launch_events_have_the_shape_of_the_documented_sample(fleet: Any) -> None:
    sample = json.loads((EVENTS / "asg_launch_successful.json").read_text())
    found = [
        e
        for e in fleet.events("EC2 Instance Launch Successful")
        if e["detail"]["AutoScalingGroupName"] == fleet.name
    ]
    assert len(found) >= 2
    for event in found:
        assert event.keys() == sample.keys()
        assert event["detail"].keys() == sample["detail"].keys()
        assert event["detail"]["Details"].keys() == sample["detail"]["Details"].keys()
        assert event["resources"][1].endswith(f"instance/{event['detail']['EC2InstanceId']}")


@pytest.mark.parametrize("desired", [-1, 5])
def test_desired_capacity_beyond_the_bounds_is_refused(fleet: Any, desired: int) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match=r"ValidationError|Invalid"):
        fleet.set_desired(desired)


def test_unknown_instance_makes_a_detachment_fail_for_all(fleet: Any) -> None:
    known = fleet.nodes()[0].instance_id
    with pytest.raises(botocore.exceptions.ClientError, match="is not part of Auto Scaling group"):
        fleet.client("autoscaling").detach_instances(
            AutoScalingGroupName=fleet.name,
            InstanceIds=[known, "i-0123456789abcdef0"],
            ShouldDecrementDesiredCapacity=False,
        )
    assert fleet.node(known).lifecycle_state == "InService"


def test_detached_node_drains_runs_on_and_is_replaced_at_once(
    fleet: Any, eventually: Callable[..., Any]
) -> None:
    gone = fleet.nodes()[0]
    before = {n.instance_id for n in fleet.nodes()}
    request = {
        "AutoScalingGroupName": fleet.name,
        "InstanceIds": [gone.instance_id],
        "ShouldDecrementDesiredCapacity": False,
    }
    fleet.client("autoscaling").detach_instances(**request)
    assert len({n.instance_id for n in fleet.nodes()} - before) == 1, (
        "the replacement is there with the answer"
    )
    with pytest.raises(botocore.exceptions.ClientError, match="ValidationError"):
        fleet.client("autoscaling").detach_instances(**request)

    # The activity deregisters it, and not the call.
    eventually(
        lambda: fleet.target_state(gone.instance_id) == ("draining", "Target.DeregistrationInProgress")
    )
    eventually(lambda: fleet.node(gone.instance_id).lifecycle_state is None)
    listed = fleet.client("autoscaling").describe_auto_scaling_instances(InstanceIds=[gone.instance_id])
    assert listed["AutoScalingInstances"] == []
    eventually(lambda: fleet.target_state(gone.instance_id) == ("unused", "Target.NotRegistered"))
    assert fleet.node(gone.instance_id).state == "running"
    eventually(lambda: len(fleet.healthy()) == 2)
    fleet.client("ec2").terminate_instances(InstanceIds=[gone.instance_id])


def test_terminated_node_leaves_no_process_and_is_replaced(
    fleet: Any, eventually: Callable[..., Any]
) -> None:
    gone = eventually(fleet.healthy)[0]
    assert len(gone.pids) >= 3, "supervisor, stub, and the child that hides from its environment"
    fleet.client("ec2").terminate_instances(InstanceIds=[gone.instance_id])
    eventually(lambda: fleet.node(gone.instance_id).pids == [], seconds=3)
    assert not any(runs(pid) for pid in gone.pids)
    assert fleet.target_state(gone.instance_id)[0] == "unused"
    eventually(lambda: len(fleet.healthy()) == 2, seconds=30)
    ended = [e["detail"]["EC2InstanceId"] for e in fleet.events("EC2 Instance Terminate Successful")]
    assert gone.instance_id in ended


def test_unready_node_that_is_still_registered_gets_no_requests(
    fleet: Any, eventually: Callable[..., Any]
) -> None:
    eventually(lambda: len(fleet.healthy()) == 2)
    sick, well = fleet.healthy()
    (fleet.root(sick.instance_id) / "unready").touch()
    eventually(lambda: fleet.target_state(sick.instance_id) == ("unhealthy", "Target.ResponseCodeMismatch"))
    assert {fleet.get("/who") for _ in range(6)} == {(200, well.address)}
    (fleet.root(sick.instance_id) / "unready").unlink()
    eventually(lambda: len(fleet.healthy()) == 2)


def test_launch_that_is_abandoned_or_not_completed_ends_the_instance(
    make_fleet: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    for result in ("ABANDON", "NONE"):
        failing = make_fleet(1, launch_result=result)
        first = eventually(lambda failing=failing: failing.nodes())[0].instance_id
        eventually(lambda failing=failing, first=first: failing.node(first).state == "terminated")
        failing.set_desired(0)
        failed = failing.events("EC2 Instance Launch Unsuccessful")
        assert first in [e["detail"]["EC2InstanceId"] for e in failed]
        assert failing.target_state(first) == ("unused", "Target.NotRegistered")


def test_group_with_elb_health_checks_replaces_a_sick_node_before_it_ends_it(
    make_fleet: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    fleet = make_fleet(
        1,
        HealthCheckType="ELB",
        HealthCheckGracePeriod=1,
        InstanceMaintenancePolicy={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200},
    )
    sick = eventually(fleet.healthy)[0]
    (fleet.root(sick.instance_id) / "unready").touch()
    eventually(lambda: len(fleet.nodes()) == 2, seconds=40)
    assert fleet.node(sick.instance_id).lifecycle_state == "InService"
    eventually(lambda: fleet.node(sick.instance_id).state == "terminated")
    assert len(fleet.nodes()) == 1
