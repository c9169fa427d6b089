"""A fleet made by hand with plain API calls: what the local AWS does, apart from what our app deploys."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local_aws.control_client import NodeView
from local_aws.session import LocalAws

STUB = Path(__file__).with_name("stub_node.sh")
DELAY_SECONDS = 6
HOOK_SECONDS = 6


@dataclass(frozen=True)
class HandMadeFleet:
    """One Auto Scaling group behind a load balancer, and the clients to act on it."""

    aws: LocalAws
    name: str
    target_group: str

    def client(self, service: str) -> Any:
        return self.aws.client(service)

    @property
    def url(self) -> str:
        return self.aws.control.load_balancer_url(self.name)

    def nodes(self) -> list[NodeView]:
        return [n for n in self.aws.control.nodes() if n.fleet == self.name and n.state == "running"]

    def node(self, instance_id: str) -> NodeView:
        return next(n for n in self.aws.control.nodes() if n.instance_id == instance_id)

    def healthy(self) -> list[NodeView]:
        return [n for n in self.nodes() if n.target_states.get(self.target_group) == "healthy"]

    def root(self, instance_id: str) -> Path:
        return self.aws.state_dir / "nodes" / instance_id / "root"

    def get(self, path: str, *, timeout: float = 20) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as err:
            return err.code, err.read().decode()

    def events(self, detail_type: str) -> list[dict[str, Any]]:
        return [
            entry["event"]
            for entry in self.aws.control.timeline()
            if entry["kind"] == "event_emitted" and entry["event"]["detail-type"] == detail_type
        ]

    def target_state(self, instance_id: str) -> tuple[str, str | None]:
        (found,) = self.client("elbv2").describe_target_health(
            TargetGroupArn=self.target_group, Targets=[{"Id": instance_id}]
        )["TargetHealthDescriptions"]
        return found["TargetHealth"]["State"], found["TargetHealth"].get("Reason")

    def set_desired(self, nodes: int) -> None:
        self.client("autoscaling").set_desired_capacity(AutoScalingGroupName=self.name, DesiredCapacity=nodes)


def eventually(what: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """Return the first truthy value of `what`; fail with the last value after `seconds`."""
    give_up = time.monotonic() + seconds
    while True:
        value = what()
        if value or time.monotonic() > give_up:
            assert value, "it did not become true in time"
            return value
        time.sleep(0.1)


@pytest.fixture(name="eventually", scope="session")
def _eventually() -> Callable[..., Any]:
    return eventually


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    with LocalAws(tmp_path_factory.mktemp("world")) as running:
        iam = running.client("iam")
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "ec2.amazonaws.com"},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        may = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "autoscaling:CompleteLifecycleAction", "Resource": "*"}
            ],
        }
        iam.create_role(RoleName="stub-node", AssumeRolePolicyDocument=json.dumps(trust))
        iam.put_role_policy(RoleName="stub-node", PolicyName="may", PolicyDocument=json.dumps(may))
        iam.create_instance_profile(InstanceProfileName="stub-node")
        iam.add_role_to_instance_profile(InstanceProfileName="stub-node", RoleName="stub-node")
        yield running


MakeFleet = Callable[..., HandMadeFleet]


@pytest.fixture(scope="module")
def make_fleet(aws: LocalAws) -> Iterator[MakeFleet]:
    """Make fleets, and end their nodes when the module's tests are over."""
    made: list[HandMadeFleet] = []

    def make(nodes: int = 1, *, launch_result: str = "CONTINUE", **group: Any) -> HandMadeFleet:
        fleet = _make(aws, nodes, launch_result, group)
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.client("autoscaling").delete_auto_scaling_group(
            AutoScalingGroupName=fleet.name, ForceDelete=True
        )


def _make(aws: LocalAws, nodes: int, launch_result: str, group: dict[str, Any]) -> HandMadeFleet:
    ec2, elb = aws.client("ec2"), aws.client("elbv2")
    name = f"stub-{uuid.uuid4().hex[:8]}"
    subnets = [s["SubnetId"] for s in ec2.describe_subnets()["Subnets"]][:2]
    targets = elb.create_target_group(
        Name=name,
        Protocol="HTTP",
        Port=8000,
        VpcId=ec2.describe_vpcs()["Vpcs"][0]["VpcId"],
        HealthCheckPort="8081",
        HealthCheckPath="/healthz",
        HealthCheckIntervalSeconds=5,
        HealthCheckTimeoutSeconds=2,
        HealthyThresholdCount=2,
        UnhealthyThresholdCount=2,
    )["TargetGroups"][0]["TargetGroupArn"]
    elb.modify_target_group_attributes(
        TargetGroupArn=targets,
        Attributes=[
            {"Key": "deregistration_delay.timeout_seconds", "Value": str(DELAY_SECONDS)},
            {"Key": "load_balancing.algorithm.type", "Value": "least_outstanding_requests"},
        ],
    )
    balancer = elb.create_load_balancer(Name=name, Subnets=subnets)["LoadBalancers"][0]["LoadBalancerArn"]
    elb.modify_load_balancer_attributes(
        LoadBalancerArn=balancer, Attributes=[{"Key": "idle_timeout.timeout_seconds", "Value": "3"}]
    )
    elb.create_listener(
        LoadBalancerArn=balancer,
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": targets}],
    )
    user_data = STUB.read_text().replace("\n", f"\nGROUP={name}\nLAUNCH_RESULT={launch_result}\n", 1)
    ec2.create_launch_template(
        LaunchTemplateName=name,
        LaunchTemplateData={
            "ImageId": "ami-12345678",
            "InstanceType": "g6.xlarge",
            "UserData": base64.b64encode(user_data.encode()).decode(),
            "IamInstanceProfile": {"Name": "stub-node"},
            "MetadataOptions": {"HttpTokens": "required"},
        },
    )
    aws.client("autoscaling").create_auto_scaling_group(
        AutoScalingGroupName=name,
        MinSize=0,
        MaxSize=4,
        DesiredCapacity=nodes,
        VPCZoneIdentifier=",".join(subnets),
        TargetGroupARNs=[targets],
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateName": name, "Version": "$Latest"},
                "Overrides": [{"InstanceType": "g5.xlarge"}, {"InstanceType": "g6.xlarge"}],
            },
            "InstancesDistribution": {
                "OnDemandBaseCapacity": 0,
                "OnDemandPercentageAboveBaseCapacity": 0,
                "SpotAllocationStrategy": "price-capacity-optimized",
            },
        },
        LifecycleHookSpecificationList=[
            {
                "LifecycleHookName": "ready",
                "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING",
                "HeartbeatTimeout": HOOK_SECONDS if launch_result == "NONE" else 60,
                "DefaultResult": "ABANDON",
            }
        ],
        Tags=[{"Key": "spot-failover:fleet", "Value": name, "PropagateAtLaunch": True}],
        **group,
    )
    return HandMadeFleet(aws, name, targets)
