"""The targets of a target group as the load balancer sees them: who, on which port, and how well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from spot_failover.errors import aws_call
from spot_failover.fleets import CACHE_FOR

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

# States of DescribeTargetHealth (API reference, TargetHealth); every other one is neither of these.
HEALTHY = "healthy"
DRAINING = "draining"
UNUSED = "unused"  # no listener forwards to the group, or the instance is stopped or gone


class Registration(NamedTuple):
    """A target is an instance *and* a port: what was registered with a port is deregistered with it alone.

    (API reference, DeregisterTargets: "If you specified a port override when you registered a target, you
    must specify both the target ID and the port when you deregister it".) Without a port it is the group's.
    """

    instance_id: str
    port: int | None = None


@dataclass(frozen=True)
class Target:
    """One registration and its state."""

    registration: Registration
    state: str


@dataclass(frozen=True)
class TargetGroup:
    """A target group's targets at one moment, those that drain included."""

    arn: str
    read_at: datetime
    targets: tuple[Target, ...]

    def of(self, instance_id: str) -> Iterator[Target]:
        """Yield an instance's registrations."""
        return (target for target in self.targets if target.registration.instance_id == instance_id)


class TargetHealth:
    """Reads target groups, and remembers the last reading for a minute in a warm function."""

    def __init__(self, elbv2: ElasticLoadBalancingv2Client) -> None:
        self._elbv2 = elbv2
        self._groups: dict[str, TargetGroup] = {}

    def read(self, arn: str, *, now: datetime) -> TargetGroup:
        """Ask for all targets of a group: one call, however many they are. Raises AwsCallError."""
        self.forget(arn)
        with aws_call("elasticloadbalancing:DescribeTargetHealth"):
            answer = self._elbv2.describe_target_health(TargetGroupArn=arn)
        targets = tuple(
            Target(
                Registration(one["Target"]["Id"], one["Target"].get("Port")),
                one["TargetHealth"]["State"],
            )
            for one in answer["TargetHealthDescriptions"]
        )
        group = self._groups[arn] = TargetGroup(arn, now, targets)
        return group

    def remembered(self, arn: str, *, now: datetime) -> TargetGroup | None:
        """Return the last reading if it is not too old."""
        group = self._groups.get(arn)
        return group if group is not None and now - group.read_at < CACHE_FOR else None

    def forget(self, arn: str) -> None:
        """Ask again next time."""
        self._groups.pop(arn, None)
