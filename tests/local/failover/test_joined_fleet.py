"""A fleet that somebody else deployed is served because it carries the tag; nothing of it is ours."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from spot_failover.outcomes import Outcome, Step

from tests.local.failover.deployed_fleet import DeployedFleet, wait_for

NAME = "theirs"
# Their node answers its health check from their own server, and has no agent of ours.
THEIR_USER_DATA = """#!/bin/bash
set -e
. "$SPOT_FAILOVER_ROOT/etc/spot-failover/local.env"
serve="python3 -m http.server 9000 --bind $SPOT_FAILOVER_ENGINE_HOST --directory $SPOT_FAILOVER_ROOT/srv"
mkdir -p "$SPOT_FAILOVER_ROOT/etc/systemd/system" "$SPOT_FAILOVER_ROOT/srv"
cat > "$SPOT_FAILOVER_ROOT/etc/systemd/system/theirs.service" <<UNIT
[Service]
EnvironmentFile=$SPOT_FAILOVER_ROOT/etc/spot-failover/local.env
ExecStart=/usr/bin/env $serve
UNIT
systemctl daemon-reload
systemctl enable --now theirs
"""


@pytest.fixture(scope="module")
def their_target_group(fleet: DeployedFleet) -> str:
    """Make the fleet as its owner would, with plain API calls, and wait until a node of it is in service."""
    ec2, elbv2 = fleet.aws.client("ec2"), fleet.aws.client("elbv2")
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["false"]}])["Vpcs"][0]["VpcId"]
    subnets = [
        subnet["SubnetId"]
        for subnet in ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    ][:2]
    answer = elbv2.create_target_group(
        Name=NAME,
        Protocol="HTTP",
        Port=9000,
        VpcId=vpc,
        HealthCheckPath="/",
        HealthCheckIntervalSeconds=5,
        Tags=[_tag()],
    )
    arn = str(answer["TargetGroups"][0]["TargetGroupArn"])
    balancer = elbv2.create_load_balancer(Name=NAME, Subnets=subnets, Scheme="internal")["LoadBalancers"][0]
    elbv2.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"],
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
    )
    template = ec2.create_launch_template(
        LaunchTemplateName=NAME,
        LaunchTemplateData={
            "ImageId": ec2.describe_images()["Images"][0]["ImageId"],
            "InstanceType": "g5.xlarge",
            "UserData": base64.b64encode(THEIR_USER_DATA.encode()).decode(),
        },
    )["LaunchTemplate"]
    fleet.aws.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=NAME,
        MinSize=1,
        MaxSize=2,
        DesiredCapacity=1,
        VPCZoneIdentifier=",".join(subnets),
        TargetGroupARNs=[arn],
        MixedInstancesPolicy=_spot(template["LaunchTemplateId"]),
        Tags=[{**_tag(), "PropagateAtLaunch": True}],
    )
    wait_for("node in service", lambda: fleet.in_service(NAME), seconds=60)
    return arn


def _tag() -> dict[str, Any]:
    return {"Key": "spot-failover:fleet", "Value": NAME}


def _spot(template: str) -> dict[str, Any]:
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "$Latest"},
            "Overrides": [{"InstanceType": "g5.xlarge"}],
        },
        "InstancesDistribution": {"OnDemandPercentageAboveBaseCapacity": 0},
    }


def test_a_joined_fleets_node_is_deregistered_and_replaced(
    fleet: DeployedFleet, their_target_group: str
) -> None:
    (node,) = fleet.in_service(NAME)
    began = time.time()
    fleet.control.interrupt(node.instance_id, notice_seconds=30)
    incident = fleet.incident_with(
        node.instance_id, "deregistered_at", "replacement_requested_at", "replacement_in_service_at"
    )
    assert incident.fleet == NAME
    assert incident.outcomes[Step.REPLACEMENT_REQUEST] is Outcome.DETACHED
    assert incident.outcomes[Step.REPLACEMENT] is Outcome.IN_SERVICE
    assert incident.outcomes[Step.DEREGISTER] in (Outcome.DEREGISTERED, Outcome.NOT_REGISTERED)
    (replacement,) = wait_for("healthy replacement", lambda: fleet.in_service(NAME))
    assert replacement.instance_id == incident.replacement_instance_id
    states = [
        entry["state"]
        for entry in fleet.control.timeline()
        if entry["kind"] == "target_state"
        and entry["instance_id"] == node.instance_id
        and entry["target_group"] == their_target_group
        and entry["at"] >= began
    ]
    assert states[0] == "draining"


def test_a_node_without_the_agent_says_so_in_the_incident(
    fleet: DeployedFleet, their_target_group: str
) -> None:
    (node,) = wait_for("node in service", lambda: fleet.in_service(NAME))
    fleet.control.interrupt(node.instance_id, notice_seconds=30)

    def drain_outcome() -> Outcome | None:
        incident = fleet.incident(node.instance_id)
        return incident.outcomes.get(Step.DRAIN) if incident else None

    assert wait_for("end of the drain command", drain_outcome) is Outcome.UNREPORTED
