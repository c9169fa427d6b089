"""Launches an instance of a group: chooses its pool, records it in moto, and boots the node behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moto.autoscaling.models import InstanceState
from moto.ec2.models.instances import MetadataOptions

from local_aws.iam.instance_roles import credentials_of, find_role
from local_aws.nodes.imds import InstanceIdentity
from local_aws.nodes.registry import LaunchOrder, Nodes
from local_aws.world import World

GROUP_NAME_TAG = "aws:autoscaling:groupName"
FLEET_TAG = "spot-failover:fleet"


class LaunchError(Exception):
    """EC2 gave no instance; the message is what the scaling activity says."""


@dataclass(frozen=True)
class Purchase:
    """What one launch asks EC2 for."""

    instance_type: str
    subnet_id: str | None
    zone: str | None
    spot: bool


def choose_purchase(
    *,
    instance_types: Sequence[str],
    subnets: Sequence[str],
    zones: Sequence[str],
    used_subnets: Sequence[str],
    launches: int,
    spot: bool,
) -> Purchase:
    """Choose a pool: the subnet with the fewest members, and each of the instance types in turn.

    On AWS the pool follows from prices and spare capacity, which this machine does not have.
    """
    used = Counter(used_subnets)
    index = min(range(len(subnets)), key=lambda i: used[subnets[i]]) if subnets else launches % len(zones)
    return Purchase(
        instance_type=instance_types[launches % len(instance_types)],
        subnet_id=subnets[index] if subnets else None,
        zone=zones[index] if not subnets else None,
        spot=spot,
    )


def wants_spot(*, on_demand_members: int, members: int, base: int, percent_above_base: int) -> bool:
    """Say whether the next instance of a mixed group is a spot one.

    The group's first `base` instances are on demand, and of those above it that percentage (API reference,
    InstancesDistribution); fractions are rounded up in favour of on demand.
    """
    above = max(0, members + 1 - base)
    needed = min(members + 1, base) + -(-above * percent_above_base // 100)
    return on_demand_members >= needed


class Launcher:
    """Launches instances for groups."""

    def __init__(self, world: World, nodes: Nodes) -> None:
        self._world = world
        self._nodes = nodes
        self._launches: Counter[str] = Counter()
        self.spot_capacity = True
        """False: EC2 has no spot instances to give, which a test sets to see launches fail."""

    def launch(self, group: Any) -> Any:
        """Launch one instance of a group and return its record, in Pending; hold the world's lock.

        Raises LaunchError.
        """
        purchase = self._purchase(group)
        if purchase.spot and not self.spot_capacity:
            raise LaunchError(
                "Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity due to "
                "your request configuration. Please adjust your request and try again. "
                "Launching EC2 instance failed."
            )
        self._launches[group.name] += 1
        instance = self._run_instance(group, purchase)
        record = InstanceState(
            instance,
            lifecycle_state="Pending",
            protected_from_scale_in=group.new_instances_protected_from_scale_in,
            autoscaling_group=group,
        )
        group.instance_states.append(record)
        return record

    def _purchase(self, group: Any) -> Purchase:
        version = template_version(group)
        policy = group.mixed_instances_policy or {}
        overrides = [o["InstanceType"] for o in policy.get("LaunchTemplate", {}).get("Overrides", [])]
        own_type = version.instance_type if version else group.launch_config.instance_type
        records = group.instance_states
        distribution = policy.get("InstancesDistribution")
        return choose_purchase(
            instance_types=overrides or [own_type],
            subnets=group.vpc_zone_identifier.split(",") if group.vpc_zone_identifier else [],
            zones=group.availability_zones,
            used_subnets=[str(r.instance.subnet_id) for r in records],
            launches=self._launches[group.name],
            spot=_template_wants_spot(version)
            if distribution is None
            else wants_spot(
                on_demand_members=sum(r.instance.lifecycle != "spot" for r in records),
                members=len(records),
                base=int(distribution.get("OnDemandBaseCapacity") or 0),
                percent_above_base=int(distribution.get("OnDemandPercentageAboveBaseCapacity", 100)),
            ),
        )

    def _run_instance(self, group: Any, purchase: Purchase) -> Any:
        version = template_version(group)
        tags = {**group.instance_tags, **group.get_propagated_tags(), GROUP_NAME_TAG: group.name}
        reservation = group.ec2_backend.run_instances(
            group.image_id,
            1,
            group.user_data,
            group.security_groups,
            instance_type=purchase.instance_type,
            is_instance_type_default=False,
            subnet_id=purchase.subnet_id,
            placement=purchase.zone,
            tags={"instance": tags},
            launch_template=(
                {"LaunchTemplateId": version.template.id, "Version": version.number} if version else None
            ),
            instance_market_options="spot" if purchase.spot else None,
            associate_public_ip=False,
        )
        instance = reservation.instances[0]
        instance.autoscaling_group = group
        data = version.data if version else {}
        instance.metadata_options = MetadataOptions(data.get("MetadataOptions"))
        profile = self._associate_profile(group, instance, data.get("IamInstanceProfile"))
        self._boot(group, instance, profile, tags)
        return instance

    @staticmethod
    def _associate_profile(group: Any, instance: Any, profile: dict[str, str] | None) -> str | None:
        if not profile:
            return None
        association = group.ec2_backend.associate_iam_instance_profile(
            instance.id,
            iam_instance_profile_name=profile.get("Name"),
            iam_instance_profile_arn=profile.get("Arn"),
        )
        return str(association.iam_instance_profile.arn)

    def _boot(self, group: Any, instance: Any, profile_arn: str | None, tags: dict[str, str]) -> None:
        address = self._nodes.claim_address()
        interface = instance.nics[0]
        interface.private_ip_address = address
        interface.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
        role = find_role(self._world, profile_arn)
        options = instance.metadata_options
        identity = InstanceIdentity(
            instance_id=instance.id,
            instance_type=instance.instance_type,
            ami_id=instance.image_id or "",
            region=self._world.region,
            zone=instance.placement.zone,
            account_id=self._world.account_id,
            address=address,
            life_cycle=instance.lifecycle or "on-demand",
            tags=tags if options.instance_metadata_tags == "enabled" else None,
            role_name=role.name if role else None,
            instance_profile_arn=profile_arn,
            tokens_required=options.http_tokens == "required",
        )
        self._nodes.launch(
            LaunchOrder(
                identity=identity,
                fleet=tags.get(FLEET_TAG),
                user_data=str(group.user_data) if group.user_data else None,
                credentials=credentials_of(self._world, role, instance.id) if role else None,
            )
        )


def template_version(group: Any) -> Any | None:
    """Return the launch template version that a group launches from; None for a launch configuration."""
    if group.ec2_launch_template is None:
        return None
    return group.ec2_launch_template.get_version(group.launch_template_version)


def _template_wants_spot(version: Any | None) -> bool:
    options = version.data.get("InstanceMarketOptions", {}) if version else {}
    return bool(options.get("MarketType") == "spot")
