"""The role behind an instance profile, and its temporary credentials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.iam import iam_backends

from local_aws.iam.sessions import assume_role_for_service
from local_aws.nodes.imds import RoleCredentials
from local_aws.world import World

# EC2 renews credentials before they end.
_RENEWED_BEFORE = timedelta(minutes=5)


@dataclass(frozen=True)
class InstanceRole:
    """The role that an instance profile carries."""

    name: str
    arn: str
    profile_arn: str


def find_role(world: World, profile_arn: str | None) -> InstanceRole | None:
    """Return an instance profile's role, None without a profile. Raises LookupError for an empty profile."""
    if profile_arn is None:
        return None
    with world.lock:
        profile: Any = iam_backends[world.account_id]["aws"].get_instance_profile_by_arn(profile_arn)
    if profile is None or not profile.roles:
        raise LookupError(f"instance profile {profile_arn} has no role")
    role = profile.roles[0]
    return InstanceRole(name=role.name, arn=role.arn, profile_arn=profile_arn)


def credentials_of(world: World, role: InstanceRole, instance_id: str) -> Callable[[], RoleCredentials]:
    """Return a source of the role's credentials that assumes the role, and again shortly before they end."""
    current: list[RoleCredentials] = []

    def give() -> RoleCredentials:
        if not current or current[-1].expiration - datetime.now(UTC) < _RENEWED_BEFORE:
            current[:] = [_assume(world, role, instance_id)]
        return current[-1]

    return give


def _assume(world: World, role: InstanceRole, session: str) -> RoleCredentials:
    assumed = assume_role_for_service(
        world, role_arn=role.arn, service="ec2.amazonaws.com", session_name=session
    )
    return RoleCredentials(
        access_key_id=assumed.access_key_id,
        secret_access_key=assumed.secret_access_key,
        session_token=assumed.session_token,
        expiration=datetime.fromtimestamp(assumed.expires_at, tz=UTC),
    )
