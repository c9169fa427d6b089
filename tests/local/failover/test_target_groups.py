"""A node in several target groups, under ports of its own, leaves them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from spot_failover.outcomes import Outcome, Step

from tests.local.failover.deployed_fleet import FLEET, DeployedFleet, wait_for

ENGINE_PORT = 8000
OTHER_PORT = 8123  # nobody asks there: what counts is who is registered


@pytest.fixture
def second_group(fleet: DeployedFleet) -> Iterator[str]:
    """A second door to the fleet, whose target group only carries its tag: both nodes, two ports each."""
    elb = fleet.aws.client("elbv2")
    nodes = fleet.whole()
    (group,) = fleet.aws.client("autoscaling").describe_auto_scaling_groups(
        AutoScalingGroupNames=[f"spot-failover-{FLEET}"]
    )["AutoScalingGroups"]
    (first,) = elb.describe_target_groups(TargetGroupArns=group["TargetGroupARNs"])["TargetGroups"]
    made = elb.create_target_group(
        Name="second-door",
        Protocol="HTTP",
        Port=OTHER_PORT,
        VpcId=first["VpcId"],
        HealthCheckPort="8081",
        HealthCheckPath="/healthz",
        Tags=[{"Key": "spot-failover:fleet", "Value": FLEET}],
    )
    arn = made["TargetGroups"][0]["TargetGroupArn"]
    listener = elb.create_listener(
        LoadBalancerArn=first["LoadBalancerArns"][0],
        Protocol="HTTP",
        Port=8080,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
    )
    for node in nodes:
        targets = [{"Id": node.instance_id}, {"Id": node.instance_id, "Port": ENGINE_PORT}]
        elb.register_targets(TargetGroupArn=arn, Targets=targets)
    yield arn
    elb.delete_listener(ListenerArn=listener["Listeners"][0]["ListenerArn"])
    elb.delete_target_group(TargetGroupArn=arn)


def _ports(elb: Any, arn: str, instance_id: str) -> set[int]:
    """Return the ports under which a node is registered and does not drain."""
    health = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    return {
        one["Target"]["Port"]
        for one in health
        if one["Target"]["Id"] == instance_id and one["TargetHealth"]["State"] != "draining"
    }


def test_a_node_leaves_every_target_group_and_port_and_the_others_stay(
    fleet: DeployedFleet, second_group: str
) -> None:
    elb = fleet.aws.client("elbv2")
    node, other = (each.instance_id for each in fleet.whole()[:2])
    assert _ports(elb, second_group, node) == {ENGINE_PORT, OTHER_PORT}
    # What a warm function remembers of a fleet's target groups is up to a minute old.
    fleet.aws.client("lambda").update_function_configuration(
        FunctionName="spot-failover-deregister_target", MemorySize=1770
    )
    fleet.control.interrupt(node, notice_seconds=60)
    incident = fleet.incident_with(node, "deregistered_at")
    assert incident.outcomes[Step.DEREGISTER] is Outcome.DEREGISTERED
    (entry,) = (one for one in incident.entries if one.outcome is Outcome.DEREGISTERED)
    assert second_group in entry.detail["target_groups"]
    assert len(entry.detail["target_groups"]) == 2
    assert _ports(elb, second_group, node) == set()
    assert _ports(elb, second_group, other) == {ENGINE_PORT, OTHER_PORT}
    fleet.incident_with(node, "replacement_in_service_at")
    wait_for("the fleet whole again", lambda: len(fleet.in_service()) >= 2)


def test_deregistering_by_the_id_alone_leaves_a_port_override_registered(
    fleet: DeployedFleet, second_group: str
) -> None:
    """As AWS documents it, and so the local AWS does."""
    elb = fleet.aws.client("elbv2")
    node = fleet.whole()[0].instance_id
    elb.deregister_targets(TargetGroupArn=second_group, Targets=[{"Id": node}])
    assert _ports(elb, second_group, node) == {ENGINE_PORT}
