"""EC2 Auto Scaling in memory: groups that launch what is missing, and what DetachInstances asks and does."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from typing import Any

from tests.simulation.balancing import LoadBalancing
from tests.simulation.compute import Ec2, Instance, State
from tests.simulation.network import client_error
from tests.simulation.timeline import Timeline

GROUP_TAG = "aws:autoscaling:groupName"
MOST_DETACHED = 20
LONGEST_NAME = 1600
_NOT_A_NAME = re.compile(r"[^\u0020-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF\r\n\t]")


class Lifecycle(StrEnum):
    """The states of a member that occur here."""

    PENDING = "Pending"
    PENDING_WAIT = "Pending:Wait"
    IN_SERVICE = "InService"
    TERMINATING = "Terminating"
    DETACHING = "Detaching"


COUNTED = frozenset({Lifecycle.PENDING, Lifecycle.PENDING_WAIT, Lifecycle.IN_SERVICE})


@dataclass
class Member:
    """A member of a group. `rebalanced`: the group has a replacement for it in hand already."""

    instance: Instance
    state: Lifecycle
    launched_at: float
    rebalanced: bool = False


@dataclass
class Group:
    """A group. `refusals`: so many launches to come fail for want of capacity."""

    name: str
    desired: int
    tags: dict[str, str]
    target_groups: tuple[str, ...]
    capacity_rebalance: bool = False
    refusals: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    activities: list[dict[str, Any]] = field(default_factory=list)
    launching: int = 0  # launches that EC2 has not answered yet
    original: list[str] = field(default_factory=list)
    launched: list[str] = field(default_factory=list)  # every instance it launched since
    gave_up: set[str] = field(default_factory=set)  # of those, who never came into service

    @property
    def missing(self) -> int:
        """How many launches it lacks."""
        counted = sum(one.state in COUNTED and not one.rebalanced for one in self.members.values())
        return self.desired - counted - self.launching


@dataclass(frozen=True)
class Pace:
    """How long things take, in seconds."""

    launch: float = 1.0
    relaunch: float = 20.0  # from a launch that failed to the next
    deregister: float = 0.5  # from a detachment to the members' leaving the group's target groups
    leave: float = 10.0  # until a member that is detached or ended has left the group's view
    health: float = 45.0  # until a group knows that a member is gone
    hook: float = 300.0  # until a launch hook that nobody completes gives a launch up


Emit = Callable[[str, str, dict[str, Any]], None]


@dataclass
class AutoScaling:
    """The groups. `emit` takes their events (source, detail type, detail); `boots` each new instance."""

    timeline: Timeline
    ec2: Ec2
    balancing: LoadBalancing
    emit: Emit
    boots: Callable[[Instance], None]
    pace: Pace = Pace()
    page_size: int = 100
    groups: dict[str, Group] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def group_of(self, instance_id: str) -> Group | None:
        """Return the group whose member an instance is."""
        return next((one for one in self.groups.values() if instance_id in one.members), None)

    def add(self, group: Group) -> None:
        """Take a group over with all its members in service."""
        self.groups[group.name] = group
        while group.missing > 0:
            member = self._member(group)
            member.instance.state = State.RUNNING
            self._serve(group, member)
        group.original, group.launched = group.launched, []

    def reconcile(self, group: Group) -> None:
        """Launch what is missing, each a moment later."""
        while group.missing > 0:
            group.launching += 1
            self._launch_later(group, self.timeline.now)

    def complete(self, instance_id: str) -> None:
        """Complete the launch hook of a node: it comes into service."""
        group = self.group_of(instance_id)
        member = group.members[instance_id] if group else None
        if group and member and member.state is Lifecycle.PENDING_WAIT and member.instance.alive:
            self._serve(group, member)
            self._end_rebalanced(group)
            self._event(
                group, "EC2 Instance Launch Successful", member.launched_at, EC2InstanceId=instance_id
            )

    def abandon(self, instance_id: str) -> None:
        """Give a launch up whose hook was abandoned, or that nobody completed."""
        group = self.group_of(instance_id)
        member = group.members[instance_id] if group else None
        if group and member and member.state is Lifecycle.PENDING_WAIT:
            self._event(
                group, "EC2 Instance Launch Unsuccessful", member.launched_at, EC2InstanceId=instance_id
            )
            group.gave_up.add(instance_id)
            self._end(group, member)

    def rebalance(self, instance: Instance) -> None:
        """Act on a notice where a group's own Capacity Rebalancing is on."""
        group = self.group_of(instance.instance_id)
        member = group.members[instance.instance_id] if group else None
        if group and member and group.capacity_rebalance and member.state is Lifecycle.IN_SERVICE:
            member.rebalanced = True
            self.reconcile(group)

    def gone(self, instance: Instance) -> None:
        """Notice, in a while, that a member in service does not run any more."""
        if not instance.alive:
            self.check_later(instance.instance_id)

    def check_later(self, instance_id: str) -> None:
        """Have a member's health looked at, when a group would come to see what it is now."""
        self.timeline.after(self.pace.health, lambda: self.check(instance_id))

    def check(self, instance_id: str) -> None:
        """Replace a member in service that is gone, or that its target groups find unhealthy."""
        group = self.group_of(instance_id)
        member = group.members[instance_id] if group else None
        if group is None or member is None or member.state is not Lifecycle.IN_SERVICE:
            return
        sick = self.balancing.registered(instance_id) and not self.balancing.serves(instance_id)
        if sick or not member.instance.alive:
            self._end(group, member)

    def describe_auto_scaling_groups(
        self,
        AutoScalingGroupNames: Sequence[str] = (),
        Filters: Sequence[Mapping[str, Any]] = (),
        NextToken: str = "0",
        MaxRecords: int = 100,
        IncludeInstances: bool = True,
    ) -> Any:
        """A name that is not known is left out."""
        _check_texts(AutoScalingGroupNames)
        for one in Filters:
            _check_texts(one["Values"])
        named = [one for one in self.groups.values() if one.name in AutoScalingGroupNames]
        found = named if AutoScalingGroupNames else list(self.groups.values())
        found = [one for one in found if all(_tagged(one.tags, each) for each in Filters)]
        first, size = int(NextToken), min(MaxRecords, self.page_size)
        more = {"NextToken": str(first + size)} if first + size < len(found) else {}
        return {"AutoScalingGroups": [_described(one) for one in found[first : first + size]], **more}

    def describe_auto_scaling_instances(self, InstanceIds: Sequence[str] = (), **_: Any) -> Any:
        """Members only: who has left, or never was one, is left out."""
        found = [
            (group, member)
            for group in self.groups.values()
            for key, member in group.members.items()
            if not InstanceIds or key in InstanceIds
        ]
        return {
            "AutoScalingInstances": [
                {
                    "InstanceId": member.instance.instance_id,
                    "AutoScalingGroupName": group.name,
                    "LifecycleState": member.state.value,
                }
                for group, member in found
            ]
        }

    def describe_scaling_activities(self, AutoScalingGroupName: str, **_: Any) -> Any:
        """Newest first."""
        return {
            "Activities": list(
                reversed(self._group("DescribeScalingActivities", AutoScalingGroupName).activities)
            )
        }

    def detach_instances(
        self, AutoScalingGroupName: str, InstanceIds: Sequence[str], ShouldDecrementDesiredCapacity: bool
    ) -> Any:
        """All or none: each must be a member, InService or Standby."""
        group = self._group("DetachInstances", AutoScalingGroupName)
        if not 1 <= len(InstanceIds) <= MOST_DETACHED:
            raise _refused("DetachInstances", f"1 to {MOST_DETACHED} instances")
        for key in InstanceIds:
            member = group.members.get(key)
            if member is None:
                raise _refused("DetachInstances", f"The instance {key} is not part of Auto Scaling group.")
            if member.state is not Lifecycle.IN_SERVICE:
                raise _refused("DetachInstances", f"The instance {key} is not in InService or Standby.")
        if ShouldDecrementDesiredCapacity:
            group.desired -= len(InstanceIds)
        for key in InstanceIds:
            self._leave(group, group.members[key], Lifecycle.DETACHING)
        self.reconcile(group)
        return {"Activities": []}

    def _launch_later(self, group: Group, started: float) -> None:
        self.timeline.after(self.pace.launch, lambda: self._launch(group, started))

    def _launch(self, group: Group, started: float) -> None:
        group.launching -= 1
        if group.refusals > 0:
            group.refusals -= 1
            self._event(group, "EC2 Instance Launch Unsuccessful", started, EC2InstanceId="")
            self.timeline.after(self.pace.relaunch, lambda: self.reconcile(group))
        elif group.missing >= 0:
            member = self._member(group)
            instance_id = member.instance.instance_id
            self.ec2.move(member.instance, State.RUNNING)
            self.boots(member.instance)
            self.timeline.after(self.pace.hook, lambda: self.abandon(instance_id))

    def _member(self, group: Group) -> Member:
        instance = self.ec2.launch({**group.tags, GROUP_TAG: group.name})
        member = Member(instance, Lifecycle.PENDING_WAIT, self.timeline.now)
        group.members[instance.instance_id] = member
        group.launched.append(instance.instance_id)
        return member

    def _serve(self, group: Group, member: Member) -> None:
        member.state = Lifecycle.IN_SERVICE
        for arn in group.target_groups:
            self.balancing.register(arn, member.instance.instance_id)

    def _end_rebalanced(self, group: Group) -> None:
        """End members at risk, as many as there are others in service for."""
        serving = [one for one in group.members.values() if one.state is Lifecycle.IN_SERVICE]
        at_risk = [one for one in serving if one.rebalanced]
        for member in at_risk[: max(0, len(serving) - group.desired)]:
            self._end(group, member)

    def _end(self, group: Group, member: Member) -> None:
        self._leave(group, member, Lifecycle.TERMINATING)
        self.timeline.after(self.pace.leave, lambda: self.ec2.end(member.instance))
        self.reconcile(group)

    def _leave(self, group: Group, member: Member, state: Lifecycle) -> None:
        member.state = state
        instance_id = member.instance.instance_id
        if state is Lifecycle.DETACHING:
            # An activity of the group's, some time after the call; see local_aws/auto_scaling/lifecycle.py.
            self.timeline.after(self.pace.deregister, lambda: self._deregister(group, instance_id))
        else:
            self._deregister(group, instance_id)
        self.timeline.after(self.pace.leave, lambda: self._drop(group, member))

    def _deregister(self, group: Group, instance_id: str) -> None:
        for arn in group.target_groups:
            self.balancing.deregister(arn, instance_id)

    def _drop(self, group: Group, member: Member) -> None:
        group.members.pop(member.instance.instance_id, None)
        if member.state is Lifecycle.DETACHING:
            member.instance.tags.pop(GROUP_TAG, None)

    def _event(self, group: Group, kind: str, started: float, **detail: str) -> None:
        now = self.timeline.now
        success = kind.endswith("Successful")
        number = next(self._numbers)
        status = "Successful" if success else "Failed"
        times = {"StartTime": moment(started), "EndTime": moment(now)}
        group.activities.append(
            {
                "ActivityId": f"activity-{number}",
                "AutoScalingGroupName": group.name,
                "StatusCode": status,
                "Cause": "",
                **times,
            }
        )
        texts = {
            key: value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            for key, value in times.items()
        }
        own = {"AutoScalingGroupName": group.name, "StatusCode": "InProgress" if success else "Failed"}
        message = "" if success else "We currently do not have sufficient capacity."
        self.emit("aws.autoscaling", kind, {**own, **texts, "StatusMessage": message, **detail})

    def _group(self, operation: str, name: str) -> Group:
        if name not in self.groups:
            raise _refused(operation, "AutoScalingGroup name not found - null")
        return self.groups[name]


def moment(at: float) -> datetime:
    """Return an epoch time as a client shows times."""
    return datetime.fromtimestamp(at, UTC)


def _refused(operation: str, message: str) -> Exception:
    return client_error(operation, "ValidationError", message)


def _check_texts(values: Sequence[str]) -> None:
    """Refuse what the API reference's pattern and length of names do not admit."""
    for value in values:
        if len(value) > LONGEST_NAME or _NOT_A_NAME.search(value):
            raise _refused("DescribeAutoScalingGroups", "failed to satisfy constraint")


def _tagged(tags: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    name, values = wanted["Name"], wanted["Values"]
    if name == "tag-key":
        return any(value in tags for value in values)
    if name.startswith("tag:"):
        return tags.get(name.removeprefix("tag:")) in values
    raise NotImplementedError(f"the simulation does not know the filter {name}")


def _described(group: Group) -> dict[str, Any]:
    return {
        "AutoScalingGroupName": group.name,
        "DesiredCapacity": group.desired,
        "MinSize": 0,
        "MaxSize": group.desired + 2,
        "TargetGroupARNs": list(group.target_groups),
        "CapacityRebalance": group.capacity_rebalance,
        "SuspendedProcesses": [],
        "Tags": list(_tags(group)),
        "Instances": [
            {
                "InstanceId": key,
                "LifecycleState": member.state.value,
                "HealthStatus": "Healthy",
                "AvailabilityZone": "us-east-1a",
                "ProtectedFromScaleIn": False,
            }
            for key, member in group.members.items()
        ],
    }


def _tags(group: Group) -> Iterator[dict[str, Any]]:
    for key, value in group.tags.items():
        yield {"Key": key, "Value": value, "ResourceId": group.name, "PropagateAtLaunch": True}
