"""Elastic Load Balancing and the tag lookup, as their API references have them: targets are (id, port)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.unit.lambdas.fake_services import client_error

PORT = 8000  # every group's own

Key = tuple[str, int]


@dataclass
class FakeLoadBalancing:
    targets: dict[str, dict[Key, str]] = field(default_factory=dict)  # state of each target, by target group
    tags: dict[str, dict[str, str]] = field(default_factory=dict)  # by target group
    stopped: set[str] = field(default_factory=set)  # instances that do not run

    def add(
        self,
        arn: str,
        ids: Iterable[str] = (),
        *,
        port: int = PORT,
        fleet: str | None = None,
        state: str = "healthy",
    ) -> None:
        """Add a target group, or targets to one; `fleet` is its tag."""
        self.targets.setdefault(arn, {}).update({(key, port): state for key in ids})
        if fleet is not None:
            self.tags[arn] = {"spot-failover:fleet": fleet}

    def set_state(self, state: str, *ids: str) -> None:
        """Put instances into a state wherever they are registered."""
        for group in self.targets.values():
            group.update({key: state for key in group if key[0] in ids})

    def serving(self, arn: str) -> set[str]:
        """Return the instances that the load balancer may send requests to: none that drains."""
        return {key[0] for key, state in self.targets[arn].items() if state != "draining"}

    def describe_target_health(self, **parameters: Any) -> Any:
        group = self._group("DescribeTargetHealth", parameters)
        return {
            "TargetHealthDescriptions": [
                {"Target": {"Id": key, "Port": port}, "TargetHealth": {"State": state}}
                for (key, port), state in group.items()
            ]
        }

    def deregister_targets(self, **parameters: Any) -> Any:
        group = self._group("DeregisterTargets", parameters)
        for key in _keys(parameters):
            if key in group:
                group[key] = "draining"
        return {}

    def register_targets(self, **parameters: Any) -> Any:
        group = self._group("RegisterTargets", parameters)
        keys = _keys(parameters)
        if any(key[0] in self.stopped for key in keys):
            raise client_error("RegisterTargets", "InvalidTarget", "not in a running state")
        group.update({key: "initial" for key in keys if group.get(key, "draining") == "draining"})
        return {}

    def get_resources(self, **parameters: Any) -> Any:
        assert parameters["ResourceTypeFilters"] == ["elasticloadbalancing:targetgroup"]
        ((name, values),) = [(one["Key"], one["Values"]) for one in parameters["TagFilters"]]
        assert len(values) <= 20
        return {
            "ResourceTagMappingList": [
                {"ResourceARN": arn, "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
                for arn, tags in self.tags.items()
                if tags.get(name) in values
            ]
        }

    def _group(self, operation: str, parameters: dict[str, Any]) -> dict[Key, str]:
        arn = parameters["TargetGroupArn"]
        if arn not in self.targets:
            raise client_error(operation, "TargetGroupNotFound", "One or more target groups not found")
        return self.targets[arn]


def _keys(parameters: dict[str, Any]) -> list[Key]:
    return [(one["Id"], one.get("Port", PORT)) for one in parameters["Targets"]]
