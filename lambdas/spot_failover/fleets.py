"""Which instances are nodes of a fleet, and what Auto Scaling knows about that fleet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from spot_failover.batches import chunks
from spot_failover.errors import aws_call

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client

GROUP_TAG_KEY = "aws:autoscaling:groupName"  # put on each member by Auto Scaling itself
CACHE_FOR = timedelta(seconds=60)
NAMES_LIMIT = 50  # groups of one DescribeAutoScalingGroups by name, by its API reference
LOOKUP_LIMIT = 200  # values of one filter (EC2 user guide, "List and filter your resources")


@dataclass(frozen=True)
class Node:
    """An instance of a fleet. `group_name` is missing where nobody's group launched it."""

    instance_id: str
    fleet: str
    group_name: str | None


@dataclass(frozen=True)
class Group:
    """An Auto Scaling group that carries the fleet tag."""

    name: str
    fleet: str
    target_group_arns: tuple[str, ...]
    capacity_rebalance: bool


@dataclass(frozen=True)
class Fleet:
    """A fleet as Auto Scaling knows it. One group by intention; more are served all the same."""

    name: str
    groups: tuple[Group, ...]

    @property
    def target_group_arns(self) -> tuple[str, ...]:
        """All target groups of the fleet, each once."""
        return tuple(dict.fromkeys(arn for group in self.groups for arn in group.target_group_arns))

    def group_of(self, group_name: str | None) -> Group | None:
        """Return the group of a node whose own tag says `group_name`; the only group needs no such tag."""
        if len(self.groups) == 1:
            return self.groups[0]
        return next((group for group in self.groups if group.name == group_name), None)


def find_nodes(ec2: EC2Client, instance_ids: Collection[str], *, tag_key: str) -> dict[str, Node]:
    """Return those of the instances that are nodes of a fleet, in one lookup for 200; the others are foreign.

    An `instance-id` filter, unlike `InstanceIds`, does not fail for all when one is unknown. Membership
    is the instance's own tag, which outlives its leaving the group; a blank one names no fleet, and no table
    could hold it. Raises AwsCallError.
    """
    nodes = {}
    for ids in chunks(sorted(instance_ids), LOOKUP_LIMIT):
        filters: Any = [{"Name": "instance-id", "Values": ids}, {"Name": "tag-key", "Values": [tag_key]}]
        with aws_call("ec2:DescribeInstances"):
            pages = list(ec2.get_paginator("describe_instances").paginate(Filters=filters))
        for page in pages:
            for reservation in page["Reservations"]:
                for instance in reservation["Instances"]:
                    tags = _tags(instance.get("Tags", []))
                    node = Node(instance["InstanceId"], tags[tag_key], tags.get(GROUP_TAG_KEY))
                    if node.fleet.strip():
                        nodes[node.instance_id] = node
    return nodes


class FleetDirectory:
    """The fleets' groups, remembered for a minute by a warm function.

    What is remembered changes when somebody reconfigures a fleet; `forget` it when a call contradicts it.
    """

    def __init__(self, autoscaling: AutoScalingClient, *, tag_key: str) -> None:
        self._autoscaling = autoscaling
        self._tag_key = tag_key
        self._fleets: dict[str, tuple[datetime, Fleet]] = {}

    def fleets(self, names: Iterable[str], *, now: datetime) -> dict[str, Fleet]:
        """Return each named fleet, asking AWS at most once for all of them. Raises AwsCallError."""
        wanted = set(names)
        stale = {name for name in wanted if not self._fresh(name, now)}
        if stale:
            groups = self._describe(Filters=[{"Name": f"tag:{self._tag_key}", "Values": sorted(stale)}])
            for name in stale:
                fleet = Fleet(name, tuple(group for group in groups if group.fleet == name))
                self._fleets[name] = (now, fleet)
        return {name: self._fleets[name][1] for name in wanted}

    def fleets_of_groups(self, group_names: Collection[str]) -> dict[str, str]:
        """Return the fleet's name for each of these groups that belongs to one. Raises AwsCallError."""
        parts = chunks(sorted(group_names), NAMES_LIMIT)
        groups = [group for names in parts for group in self._describe(AutoScalingGroupNames=names)]
        return {group.name: group.fleet for group in groups}

    def forget(self, name: str) -> None:
        """Read this fleet anew next time."""
        self._fleets.pop(name, None)

    def _fresh(self, name: str, now: datetime) -> bool:
        if name not in self._fleets:
            return False
        read_at, fleet = self._fleets[name]
        # A fleet without a group may be about to get one: that answer is not kept.
        return bool(fleet.groups) and now - read_at < CACHE_FOR

    def _describe(self, **selection: Any) -> list[Group]:
        with aws_call("autoscaling:DescribeAutoScalingGroups"):
            paginator = self._autoscaling.get_paginator("describe_auto_scaling_groups")
            pages = list(paginator.paginate(**selection))
        groups = [group for page in pages for group in page["AutoScalingGroups"]]
        return [
            Group(
                name=group["AutoScalingGroupName"],
                fleet=tags[self._tag_key],
                target_group_arns=tuple(group.get("TargetGroupARNs", [])),
                capacity_rebalance=bool(group.get("CapacityRebalance")),
            )
            for group in groups
            if (tags := _tags(group.get("Tags", []))).get(self._tag_key, "").strip()
        ]


def _tags(pairs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    return {pair["Key"]: pair.get("Value", "") for pair in pairs}
