"""Fleets of bare nodes, made by plain API calls as their owners would make them, and joined by the tag."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from local_aws.control_client import NodeView
from local_aws.session import LocalAws

FLEET_TAG = "spot-failover:fleet"
READY_SECONDS = 180.0
# As the control plane's own fleets have them.
CHECK_SECONDS, DEREGISTRATION_SECONDS = 5, 120
HOOK_SECONDS = 900


class FleetsNotReadyError(RuntimeError):
    """The nodes did not come into service in time; the message says how many did."""


@dataclass(frozen=True)
class Fleets:
    """Fleets of one local AWS, all of the same size. `target_groups` are by fleet."""

    aws: LocalAws
    target_groups: dict[str, str]

    @property
    def names(self) -> list[str]:
        """The fleets' names; their groups are called the same."""
        return list(self.target_groups)

    def serving(self) -> list[NodeView]:
        """Return the nodes in service, healthy and without a notice, in the order of their launch."""
        return [
            node
            for node in self.aws.control.nodes()
            if node.state == "running"
            and node.noticed_at is None
            and node.lifecycle_state == "InService"
            and set(node.target_states.values()) == {"healthy"}
        ]

    def managed(self) -> set[str]:
        """Return the nodes that Systems Manager knows: until then no command reaches one."""
        known = self.aws.client("ssm").describe_instance_information()["InstanceInformationList"]
        return {each["InstanceId"] for each in known}

    def whole(self, nodes: int) -> list[NodeView]:
        """Wait until so many nodes serve and can be told, and return them. Raises FleetsNotReadyError."""
        give_up_at = time.monotonic() + READY_SECONDS
        while len(found := self.serving()) < nodes or not self.managed().issuperset(
            node.instance_id for node in found
        ):
            if time.monotonic() > give_up_at:
                raise FleetsNotReadyError(f"{len(found)} of {nodes} nodes serve after {READY_SECONDS:g} s")
            time.sleep(0.5)
        return found


def spread_over(nodes: Sequence[NodeView], count: int) -> list[str]:
    """Return `count` instance ids, taken from the fleets in turn. Raises ValueError where there are fewer."""
    fleets: dict[str, list[str]] = {}
    for node in nodes:
        fleets.setdefault(node.fleet or "", []).append(node.instance_id)
    most = max((len(each) for each in fleets.values()), default=0)
    in_turn = [each[turn] for turn in range(most) for each in fleets.values() if turn < len(each)]
    if len(in_turn) < count:
        raise ValueError(f"{len(in_turn)} nodes, not {count}")
    return in_turn[:count]


def make_fleets(aws: LocalAws, *, fleets: int, nodes_each: int) -> Fleets:
    """Make fleets behind a load balancer each; their nodes come up meanwhile."""
    ec2 = aws.client("ec2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    found = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    subnets = [each["SubnetId"] for each in found][:2]
    names = [f"fleet-{number:02}" for number in range(1, fleets + 1)]
    return Fleets(aws, {name: _make(aws, name, vpc, subnets, nodes_each) for name in names})


def _make(aws: LocalAws, name: str, vpc: str, subnets: list[str], nodes: int) -> str:
    """Make one fleet; return its target group."""
    target_group = _target_group(aws.client("elbv2"), name, vpc, subnets)
    aws.client("ec2").create_launch_template(
        LaunchTemplateName=name, LaunchTemplateData={"ImageId": "ami-12345678", "InstanceType": "g6e.xlarge"}
    )
    aws.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=2 * nodes,
        DesiredCapacity=nodes,
        VPCZoneIdentifier=",".join(subnets),
        TargetGroupARNs=[target_group],
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateName": name, "Version": "$Latest"},
                "Overrides": [{"InstanceType": "g6e.xlarge"}],
            },
            "InstancesDistribution": {"OnDemandPercentageAboveBaseCapacity": 0},
        },
        LifecycleHookSpecificationList=[
            {
                "LifecycleHookName": "ready",
                "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
                "HeartbeatTimeout": HOOK_SECONDS,
                "DefaultResult": "ABANDON",
            }
        ],
        Tags=[{"Key": FLEET_TAG, "Value": name, "PropagateAtLaunch": True}],
    )
    return target_group


def _target_group(elbv2: Any, name: str, vpc: str, subnets: list[str]) -> str:
    answer = elbv2.create_target_group(
        Name=name,
        Protocol="HTTP",
        Port=8000,
        VpcId=vpc,
        HealthCheckPath="/healthz",
        HealthCheckIntervalSeconds=CHECK_SECONDS,
        Tags=[{"Key": FLEET_TAG, "Value": name}],
    )
    arn = str(answer["TargetGroups"][0]["TargetGroupArn"])
    elbv2.modify_target_group_attributes(
        TargetGroupArn=arn,
        Attributes=[
            {"Key": "deregistration_delay.timeout_seconds", "Value": str(DEREGISTRATION_SECONDS)},
        ],
    )
    balancer = elbv2.create_load_balancer(Name=name, Subnets=subnets, Scheme="internal")["LoadBalancers"][0]
    elbv2.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"],
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
    )
    return arn
