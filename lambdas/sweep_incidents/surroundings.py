"""What AWS knows of nodes and groups, as far as a sweep needs it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from spot_failover.batches import chunks
from spot_failover.errors import aws_call

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client

FILTER_VALUES = 200  # of one filter of DescribeInstances, by its API reference
MEMBERS_AT_ONCE = 50  # instance ids of one DescribeAutoScalingInstances, by its API reference
ALIVE = ("pending", "running", "stopping", "stopped")
"""A machine that is stopped starts again when EC2 has capacity, and its disk is paid for meanwhile."""
DETACHABLE = frozenset({"InService", "Standby"})
WAITING = "Pending:Wait"


@dataclass(frozen=True)
class Machine:
    """An instance that is not terminated, nor about to be."""

    state: str
    launched_at: datetime
    spot_request: str | None


@dataclass(frozen=True)
class GroupView:
    """A fleet's group. `members`: lifecycle state by instance id; `suspended`: names of its processes."""

    name: str
    fleet: str
    desired: int
    members: Mapping[str, str]
    suspended: tuple[str, ...]

    @property
    def unfilled(self) -> int:
        """How many nodes are wanted, and neither there nor being launched."""
        counted = sum(state == "InService" or state.startswith("Pending") for state in self.members.values())
        return max(0, self.desired - counted)


def read_groups(autoscaling: AutoScalingClient, fleets: Collection[str], *, tag_key: str) -> list[GroupView]:
    """Return the groups of these fleets. Raises AwsCallError."""
    filters: Any = [{"Name": f"tag:{tag_key}", "Values": sorted(fleets)}]
    with aws_call("autoscaling:DescribeAutoScalingGroups"):
        paginator = autoscaling.get_paginator("describe_auto_scaling_groups")
        pages = list(paginator.paginate(Filters=filters))
    return [_group(group, tag_key) for page in pages for group in page["AutoScalingGroups"]]


def read_machines(ec2: EC2Client, instance_ids: Collection[str], *, tag_key: str) -> dict[str, Machine]:
    """Return those of the instances that are alive and carry the fleet's tag. Raises AwsCallError."""
    machines: dict[str, Machine] = {}
    for chunk in chunks(sorted(instance_ids), FILTER_VALUES):
        filters: Any = [
            {"Name": "instance-id", "Values": list(chunk)},
            {"Name": "tag-key", "Values": [tag_key]},
            {"Name": "instance-state-name", "Values": list(ALIVE)},
        ]
        with aws_call("ec2:DescribeInstances"):
            pages = list(ec2.get_paginator("describe_instances").paginate(Filters=filters))
        for page in pages:
            for reservation in page["Reservations"]:
                machines |= {one["InstanceId"]: _machine(one) for one in reservation["Instances"]}
    return machines


def members_of_any_group(autoscaling: AutoScalingClient, instance_ids: Collection[str]) -> set[str]:
    """Return those of the instances that some group has, a fleet's or another. Raises AwsCallError."""
    members: set[str] = set()
    for chunk in chunks(sorted(instance_ids), MEMBERS_AT_ONCE):
        with aws_call("autoscaling:DescribeAutoScalingInstances"):
            answer = autoscaling.describe_auto_scaling_instances(InstanceIds=list(chunk))
        members |= {one["InstanceId"] for one in answer["AutoScalingInstances"]}
    return members


def _group(group: Mapping[str, Any], tag_key: str) -> GroupView:
    return GroupView(
        name=group["AutoScalingGroupName"],
        fleet=next(tag["Value"] for tag in group["Tags"] if tag["Key"] == tag_key),
        desired=int(group.get("DesiredCapacity", 0)),
        members={one["InstanceId"]: one["LifecycleState"] for one in group.get("Instances", [])},
        suspended=tuple(sorted(one["ProcessName"] for one in group.get("SuspendedProcesses", []))),
    )


def _machine(instance: Mapping[str, Any]) -> Machine:
    return Machine(
        state=instance["State"]["Name"],
        launched_at=instance["LaunchTime"],
        spot_request=instance.get("SpotInstanceRequestId"),
    )
