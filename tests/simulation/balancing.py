"""Elastic Load Balancing in memory: target groups, who is registered in them, and how healthy it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.compute import Ec2, Instance, State
from tests.simulation.network import client_error
from tests.simulation.timeline import Timeline

DEREGISTRATION_DELAY = 30.0
FIRST_CHECKS = 5.0  # seconds from a registration until the first check has passed


@dataclass
class Target:
    """A registration. `drains_until` is set once it is deregistered."""

    since: float
    drains_until: float | None = None


@dataclass
class TargetGroup:
    """A target group with its default port. Targets by instance id and port."""

    arn: str
    port: int = 8000
    tags: dict[str, str] = field(default_factory=dict)
    targets: dict[tuple[str, int], Target] = field(default_factory=dict)


@dataclass
class LoadBalancing:
    """All target groups. `serves` says whether an instance passes health checks."""

    timeline: Timeline
    ec2: Ec2
    serves: Callable[[str], bool]
    groups: dict[str, TargetGroup] = field(default_factory=dict)

    def registered(self, instance_id: str) -> list[str]:
        """Return the target groups in which an instance is registered, draining left out."""
        return [
            group.arn
            for group in self.groups.values()
            for (key, _), target in group.targets.items()
            if key == instance_id and target.drains_until is None
        ]

    def register(self, arn: str, instance_id: str, port: int | None = None) -> None:
        """Register a target, or take a draining one back."""
        group = self.groups[arn]
        key = (instance_id, port or group.port)
        known = group.targets.get(key)
        if known is None or known.drains_until is not None:
            group.targets[key] = Target(self.timeline.now)

    def deregister(self, arn: str, instance_id: str, port: int | None = None) -> None:
        """Let a target drain; one that is not registered under that port is left alone."""
        group = self.groups[arn]
        target = group.targets.get((instance_id, port or group.port))
        if target and target.drains_until is None:
            target.drains_until = self.timeline.now + DEREGISTRATION_DELAY

    def forget(self, instance: Instance) -> None:
        """Take an instance that is going or gone out of every group."""
        if instance.alive:
            return
        for group in self.groups.values():
            for key in [one for one in group.targets if one[0] == instance.instance_id]:
                del group.targets[key]

    def deregister_targets(self, TargetGroupArn: str, Targets: Sequence[Mapping[str, Any]]) -> Any:
        """A target that is not registered is no error."""
        self._group("DeregisterTargets", TargetGroupArn)
        for one in Targets:
            self.deregister(TargetGroupArn, one["Id"], one.get("Port"))
        return {}

    def register_targets(self, TargetGroupArn: str, Targets: Sequence[Mapping[str, Any]]) -> Any:
        """An instance that does not run is refused, and with it the call."""
        self._group("RegisterTargets", TargetGroupArn)
        for one in Targets:
            instance = self.ec2.instances.get(one["Id"])
            if instance is None or instance.state is not State.RUNNING:
                raise client_error("RegisterTargets", "InvalidTarget", f"'{one['Id']}' is not running")
        for one in Targets:
            self.register(TargetGroupArn, one["Id"], one.get("Port"))
        return {}

    def describe_target_health(
        self, TargetGroupArn: str, Targets: Sequence[Mapping[str, Any]] = (), Include: Sequence[str] = ()
    ) -> Any:
        """Without `Targets`, all that are registered or drain."""
        group = self._group("DescribeTargetHealth", TargetGroupArn)
        self._expire(group)
        keys = [(one["Id"], one.get("Port") or group.port) for one in Targets] or list(group.targets)
        return {
            "TargetHealthDescriptions": [
                {
                    "Target": {"Id": instance_id, "Port": port},
                    "HealthCheckPort": "traffic-port",
                    "TargetHealth": {"State": self._state(group, instance_id, port)},
                }
                for instance_id, port in keys
            ]
        }

    def describe_target_groups(
        self, TargetGroupArns: Sequence[str] = (), Marker: str = "", PageSize: int = 0
    ) -> Any:
        """All of the account, or those asked for."""
        found = [self._group("DescribeTargetGroups", arn) for arn in TargetGroupArns or self.groups]
        return {
            "TargetGroups": [
                {"TargetGroupArn": one.arn, "Port": one.port, "Protocol": "HTTP"} for one in found
            ]
        }

    def describe_tags(self, ResourceArns: Sequence[str]) -> Any:
        """The tags of up to 20 resources."""
        if len(ResourceArns) > 20:
            raise client_error("DescribeTags", "ValidationError", "at most 20 resources")
        found = [self._group("DescribeTags", arn) for arn in ResourceArns]
        return {
            "TagDescriptions": [
                {
                    "ResourceArn": one.arn,
                    "Tags": [{"Key": key, "Value": value} for key, value in one.tags.items()],
                }
                for one in found
            ]
        }

    def _group(self, operation: str, arn: str) -> TargetGroup:
        if arn not in self.groups:
            raise client_error(operation, "TargetGroupNotFound", "One or more target groups not found")
        return self.groups[arn]

    def _expire(self, group: TargetGroup) -> None:
        over = [
            key
            for key, target in group.targets.items()
            if target.drains_until is not None and target.drains_until <= self.timeline.now
        ]
        for key in over:
            del group.targets[key]

    def _state(self, group: TargetGroup, instance_id: str, port: int) -> str:
        target = group.targets.get((instance_id, port))
        if target is None:
            return "unused"
        if target.drains_until is not None:
            return "draining"
        if self.timeline.now < target.since + FIRST_CHECKS:
            return "initial"
        return "healthy" if self.serves(instance_id) else "unhealthy"


@dataclass
class TagLookup:
    """The Resource Groups Tagging API, as far as it finds target groups."""

    balancing: LoadBalancing

    def get_resources(
        self,
        TagFilters: Sequence[Mapping[str, Any]] = (),
        ResourceTypeFilters: Sequence[str] = (),
        PaginationToken: str = "",
        ResourcesPerPage: int = 100,
    ) -> Any:
        """Find target groups by their tags."""
        if list(ResourceTypeFilters) != ["elasticloadbalancing:targetgroup"]:
            raise NotImplementedError(f"the simulation finds no {ResourceTypeFilters}")
        found = [
            group
            for group in self.balancing.groups.values()
            if all(_has(group.tags, wanted) for wanted in TagFilters)
        ]
        return {
            "PaginationToken": "",
            "ResourceTagMappingList": [
                {
                    "ResourceARN": group.arn,
                    "Tags": [{"Key": key, "Value": value} for key, value in group.tags.items()],
                }
                for group in found
            ],
        }


def _has(tags: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    values = wanted.get("Values") or []
    return wanted["Key"] in tags and (not values or tags[wanted["Key"]] in values)
