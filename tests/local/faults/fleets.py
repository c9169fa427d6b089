"""Fleets of bare nodes that join by their tag: groups and target groups that somebody else has made."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from local_aws.session import LocalAws

FLEET_TAG = "spot-failover:fleet"
# More than a case takes at once, and more than are under way back to health after the last one.
NODES_EACH = 9


@dataclass(frozen=True)
class BareFleet:
    """One group behind one target group, both with the fleet's tag."""

    name: str
    group: str
    target_group: str


class Fleets:
    """Some fleets of bare nodes, and their members' comings and goings."""

    def __init__(self, aws: LocalAws, *, names: Sequence[str], nodes: int = NODES_EACH) -> None:
        self._aws = aws
        self._autoscaling, self._ec2 = aws.client("autoscaling"), aws.client("ec2")
        self._elbv2 = aws.client("elbv2")
        self.nodes = nodes
        self._fresh: dict[str, deque[str]] = defaultdict(deque)
        self._steady: dict[str, list[str]] = {}
        self._fleet_of: dict[str, str] = {}
        self.image = str(self._ec2.describe_images(MaxResults=5)["Images"][0]["ImageId"])
        self.fleets = self._make(names)
        wait_for("healthy bare nodes", self._healthy)
        for fleet in self.fleets:
            self._meet(fleet)
            # Those stay in their groups throughout.
            self._steady[fleet.name] = [self._fresh[fleet.name].popleft() for _ in range(3)]
        wait_for("nodes that Systems Manager knows", self._steady_are_managed)

    def _steady_are_managed(self) -> bool:
        known = self._aws.client("ssm").describe_instance_information()["InstanceInformationList"]
        steady = {one for nodes in self._steady.values() for one in nodes}
        return steady <= {each["InstanceId"] for each in known}

    def steady(self, fleet: BareFleet, number: int = 0) -> str:
        """Return a node for a case that does not take it out of its group."""
        return self._steady[fleet.name][number]

    def take(self, fleet: BareFleet) -> str:
        """Return a node in service that no case has had yet."""
        fresh = self._fresh[fleet.name]
        if not fresh:
            self.wait_until_whole(fleet)
            self._meet(fleet)
        return fresh.popleft()

    def wait_until_whole(self, fleet: BareFleet) -> None:
        """Wait until as many nodes of a fleet are in service as are desired."""
        self.wait_until_in_service(fleet.group, self.nodes)

    def wait_until_in_service(self, group: str, nodes: int) -> None:
        """Wait until a group, of the fleets or not, has as many members in service."""
        wait_for(f"{nodes} members of {group}", lambda: len(self.members_of(group)) == nodes)

    def wait_until_deregistered(self, instance_id: str) -> None:
        """Wait until a detachment has taken a node out of its target groups, which it does a moment later."""

        def left() -> bool:
            mine = [one["state"] for one in self._aws.control.targets() if one["target"] == instance_id]
            return set(mine) <= {"draining", "unused"}

        wait_for(f"{instance_id} out of its target groups", left)

    def put_back(self, instance_id: str) -> None:
        """Let a node that is still in service in its group be taken again."""
        for fleet in self.fleets:
            if instance_id in self._members(fleet):
                self._fresh[fleet.name].appendleft(instance_id)

    def fleet_of(self, instance_id: str) -> str | None:
        """Return the fleet of a node that is or was one."""
        return self._fleet_of.get(instance_id)

    def gone_from_its_group(self, instance_id: str) -> None:
        """Take note that a node is none of its group's any more."""
        self._fleet_of.pop(instance_id, None)

    def known(self, fleet: BareFleet) -> list[str]:
        """Return all that are or were the fleet's nodes."""
        return [one for one, name in self._fleet_of.items() if name == fleet.name]

    def register(self, fleet: BareFleet, instance_ids: Sequence[str]) -> None:
        """Put nodes back into their target group."""
        self._elbv2.register_targets(
            TargetGroupArn=fleet.target_group, Targets=[{"Id": instance_id} for instance_id in instance_ids]
        )

    def end(self, instance_ids: Sequence[str]) -> None:
        """End instances that a case has detached."""
        self._ec2.terminate_instances(InstanceIds=list(instance_ids))

    def desired(self) -> dict[str, int]:
        """Return each group's desired capacity."""
        names = [fleet.group for fleet in self.fleets]
        groups = self._autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=names)
        return {
            group["AutoScalingGroupName"]: group["DesiredCapacity"] for group in groups["AutoScalingGroups"]
        }

    def _make(self, names: Sequence[str]) -> list[BareFleet]:
        subnets = self._ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])
        ids = [subnet["SubnetId"] for subnet in subnets["Subnets"]][:2]
        vpc = subnets["Subnets"][0]["VpcId"]
        made = self._elbv2.create_load_balancer(Name="faults", Subnets=ids, Scheme="internal")
        balancer = made["LoadBalancers"][0]["LoadBalancerArn"]
        self._ec2.create_launch_template(
            LaunchTemplateName="bare",
            LaunchTemplateData={
                "ImageId": self.image,
                "InstanceType": "g5.xlarge",
                "InstanceMarketOptions": {"MarketType": "spot"},
            },
        )
        return [self._fleet(name, vpc, ids, balancer, 81 + number) for number, name in enumerate(names)]

    def _fleet(self, name: str, vpc: str, subnets: list[str], balancer: str, listens: int) -> BareFleet:
        tag = {"Key": FLEET_TAG, "Value": name}
        answer = self._elbv2.create_target_group(
            Name=name,
            Protocol="HTTP",
            Port=8000,
            VpcId=vpc,
            HealthCheckPath="/",
            HealthCheckIntervalSeconds=5,
            Tags=[tag],
        )
        arn = str(answer["TargetGroups"][0]["TargetGroupArn"])
        # Requests are nobody's here: the next deregistration of a node need not wait for the last one's end.
        self._elbv2.modify_target_group_attributes(
            TargetGroupArn=arn, Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "0"}]
        )
        self._elbv2.create_listener(
            LoadBalancerArn=balancer,
            Protocol="HTTP",
            Port=listens,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
        )
        self._autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=1,
            MaxSize=3 * self.nodes,
            DesiredCapacity=self.nodes,
            VPCZoneIdentifier=",".join(subnets),
            TargetGroupARNs=[arn],
            LaunchTemplate={"LaunchTemplateName": "bare", "Version": "$Latest"},
            Tags=[{**tag, "PropagateAtLaunch": True}],
        )
        return BareFleet(name, name, arn)

    def _meet(self, fleet: BareFleet) -> None:
        for one in self._members(fleet):
            self._fleet_of[one] = fleet.name
            if one not in self._steady.get(fleet.name, ()):
                self._fresh[fleet.name].append(one)

    def _members(self, fleet: BareFleet) -> list[str]:
        return self.members_of(fleet.group)

    def members_of(self, group: str) -> list[str]:
        """Return the members of a group that are in service."""
        groups = self._autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[group])
        return [
            instance["InstanceId"]
            for instance in groups["AutoScalingGroups"][0]["Instances"]
            if instance["LifecycleState"] == "InService"
        ]

    def _healthy(self) -> bool:
        states = [
            target["state"]
            for target in self._aws.control.targets()
            if target["target_group"] in {fleet.target_group for fleet in self.fleets}
        ]
        return len(states) == self.nodes * len(self.fleets) and set(states) == {"healthy"}


def wait_for(what: str, look: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Wait until `look` answers true; fail with `what` was awaited."""
    give_up_at = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < give_up_at, f"after {seconds:g} s there were still no {what}"
        time.sleep(0.05)
