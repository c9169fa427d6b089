"""Elastic Load Balancing v2: target groups whose targets have real health, and the listeners that are served.

moto keeps load balancers, listeners and target groups; who is registered, and in what state, is kept by
`targets`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.elbv2.exceptions import ELBClientError, TargetGroupNotFoundError
from moto.elbv2.models import ELBv2Backend, FakeHealthStatus, FakeLoadBalancer, elbv2_backends

from local_aws.cloudformation.seam import after_create
from local_aws.load_balancing.target_health import HealthCheck
from local_aws.load_balancing.targets import GroupSettings, Targets
from local_aws.moto_override import override, wrap
from local_aws.world import World

log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.25
_DEFAULT_IDLE_TIMEOUT_SECONDS = 60

AddressOf = Callable[[str], str | None]


@dataclass(frozen=True)
class ListenerSpec:
    """One listener to serve. `refusal` says why it cannot be followed here; it then answers 501."""

    arn: str
    scheme: str
    target_groups: tuple[str, ...]
    idle_timeout: float
    refusal: str | None


class LoadBalancing:
    """What moto knows of load balancing, turned into settings for the targets and listeners."""

    def __init__(self, world: World, targets: Targets, address_of: AddressOf) -> None:
        self._world = world
        self.targets = targets
        self.address_of = address_of

    @property
    def backend(self) -> Any:
        """moto's backend; hold the world's lock."""
        return elbv2_backends[self._world.account_id][self._world.region]

    def configure(self, arn: str) -> Any:
        """Hand a target group's settings to the targets and return moto's group; hold the world's lock.

        Raises TargetGroupNotFoundError.
        """
        group = self.backend.target_groups.get(arn)
        if group is None:
            raise TargetGroupNotFoundError
        self.targets.configure(_settings(group, in_use=self._in_use(arn)))
        return group

    def register(self, arn: str, instance_id: str, port: int | None = None) -> None:
        """Register an instance or address; hold the world's lock. Raises ELB's InvalidTarget."""
        group = self.configure(arn)
        address = instance_id if group.target_type == "ip" else self._running_address(instance_id)
        self.targets.register(arn, instance_id, port=port, address=address)

    def deregister(self, arn: str, instance_id: str, port: int | None = None) -> None:
        """Start to drain a target; one that is not there is no error. Hold the world's lock."""
        self.configure(arn)
        self.targets.deregister(arn, instance_id, port=port)

    def _running_address(self, instance_id: str) -> str:
        instance = self.backend.ec2_backend.get_instance_by_id(instance_id)
        if instance is None:
            raise ELBClientError("InvalidTarget", f"The following targets don't exist: '{instance_id}'")
        if instance.state != "running":
            raise ELBClientError(
                "InvalidTarget",
                f"The following targets are not in a running state and cannot be registered: '{instance_id}'",
            )
        return self.address_of(instance_id) or str(instance.private_ip_address)

    def _in_use(self, arn: str) -> bool:
        return any(arn in spec.target_groups for spec in self.listeners())

    def listeners(self) -> list[ListenerSpec]:
        """Return the listeners of all application load balancers; hold the world's lock."""
        return [
            _listener(balancer, listener)
            for balancer in self.backend.load_balancers.values()
            if balancer.type == "application"
            for listener in balancer.listeners.values()
        ]

    def watch(self, apply: Callable[[list[ListenerSpec]], None], stop: threading.Event) -> None:
        """Keep settings and listeners up to date with what is deployed, until `stop`."""
        while not stop.wait(_WATCH_SECONDS):
            try:
                with self._world.lock:
                    specs = self.listeners()
                    for arn in list(self.backend.target_groups):
                        self.configure(arn)
                apply(specs)
            except Exception:
                log.exception("could not read the load balancers")


def _settings(group: Any, *, in_use: bool) -> GroupSettings:
    port = str(group.health_check_port or "traffic-port")
    attributes = group.attributes
    return GroupSettings(
        arn=group.arn,
        name=group.name,
        port=int(group.port),
        check=HealthCheck(
            path=group.health_check_path or "/",
            port=None if port == "traffic-port" else int(port),
            interval=float(group.health_check_interval_seconds),
            timeout=float(group.health_check_timeout_seconds),
            healthy_threshold=int(group.healthy_threshold_count),
            unhealthy_threshold=int(group.unhealthy_threshold_count),
            matcher=str((group.matcher or {}).get("HttpCode") or "200"),
        ),
        deregistration_delay=float(attributes["deregistration_delay.timeout_seconds"]),
        least_outstanding=attributes["load_balancing.algorithm.type"] == "least_outstanding_requests",
        in_use=in_use,
    )


def _listener(balancer: Any, listener: Any) -> ListenerSpec:
    actions = [getattr(action, "data", action) for action in listener.default_actions]
    groups = tuple(arn for action in actions for arn in _forwards_to(action))
    refusal = None
    if any(action.get("Type") != "forward" for action in actions) or not groups:
        refusal = f"only forward actions are served, not {[action.get('Type') for action in actions]}"
    elif len(groups) > 1:
        refusal = "weighted target groups are not served"
    elif len(listener.rules) > 1:
        refusal = "listener rules beside the default are not served"
    elif str(listener.protocol).upper() != "HTTP":
        refusal = f"{listener.protocol} listeners are not served"
    return ListenerSpec(
        arn=listener.arn,
        scheme=balancer.scheme,
        target_groups=groups,
        idle_timeout=float(balancer.attrs.get("idle_timeout.timeout_seconds", _DEFAULT_IDLE_TIMEOUT_SECONDS)),
        refusal=refusal,
    )


def _forwards_to(action: Mapping[str, Any]) -> list[str]:
    if "TargetGroupArn" in action:
        return [action["TargetGroupArn"]]
    return [group["TargetGroupArn"] for group in action.get("ForwardConfig", {}).get("TargetGroups", [])]


def apply_overrides(balancing: LoadBalancing) -> None:
    """Let moto's ELB API act on the targets, and keep what its CloudFormation drops."""
    targets = balancing.targets

    @override(ELBv2Backend)
    def register_targets(_: Any, target_group_arn: str, instances: list[dict[str, Any]]) -> None:
        for given in instances:
            balancing.register(target_group_arn, given["Id"], _port(given))

    @override(ELBv2Backend)
    def deregister_targets(_: Any, target_group_arn: str, instances: list[dict[str, Any]]) -> None:
        for given in instances:
            balancing.deregister(target_group_arn, given["Id"], _port(given))

    @override(ELBv2Backend)
    def describe_target_health(
        _: Any, target_group_arn: str, targets: list[dict[str, Any]] | None
    ) -> list[FakeHealthStatus]:
        group = balancing.configure(target_group_arn)
        wanted = [(each["Id"], _port(each)) for each in targets or []] or [
            (each.target_id, each.port) for each in balancing.targets.registered(target_group_arn)
        ]
        return [_health_status(balancing.targets, group, target_id, port) for target_id, port in wanted]

    @override(ELBv2Backend)
    def notify_terminate_instances(_: Any, instance_ids: list[str]) -> None:
        for instance_id in instance_ids:
            targets.forget_instance(instance_id)

    def delete_target_group(original: Any, backend: Any, target_group_arn: str) -> Any:
        deleted = original(backend, target_group_arn)
        targets.forget_group(target_group_arn)
        return deleted

    wrap(ELBv2Backend, "delete_target_group", delete_target_group)

    after_create(
        "AWS::ElasticLoadBalancingV2::TargetGroup",
        lambda group, given: _complete_group(balancing, group, given),
    )
    after_create(
        "AWS::ElasticLoadBalancingV2::LoadBalancer",
        lambda balancer, given: _complete_balancer(balancing, balancer, given),
    )


def _port(given: Mapping[str, Any]) -> int | None:
    return int(given["Port"]) if given.get("Port") else None


def _health_status(targets: Targets, group: Any, target_id: str, port: int | None) -> FakeHealthStatus:
    found, health = targets.health(group.arn, target_id, port)
    return FakeHealthStatus(
        target_id,
        found,
        group.health_check_port,
        health.state.value,
        health.reason.value if health.reason else None,
        health.description,
    )


def _attributes(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {each["Key"]: each["Value"] for each in given.get(name, [])}


def _complete_group(balancing: LoadBalancing, group: Any, given: Mapping[str, Any]) -> None:
    attributes = _attributes(given, "TargetGroupAttributes")
    if attributes:
        balancing.backend.modify_target_group_attributes(group.arn, attributes)
    if tags := given.get("Tags"):
        balancing.backend.add_tags([group.arn], tags)


def _complete_balancer(
    balancing: LoadBalancing, balancer: FakeLoadBalancer, given: Mapping[str, Any]
) -> None:
    attributes = _attributes(given, "LoadBalancerAttributes")
    if attributes:
        balancing.backend.modify_load_balancer_attributes(balancer.arn, attributes)
    if tags := given.get("Tags"):
        balancing.backend.add_tags([balancer.arn], tags)
