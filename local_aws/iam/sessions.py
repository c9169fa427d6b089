"""Roles assumed by Lambda and EC2: their trust policies honoured, their sessions known by access key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from local_aws.iam.policy import Decision, Request, evaluate, parse_policy
from local_aws.world import World

SESSION_SECONDS = 12 * 3600


class CannotAssumeRoleError(RuntimeError):
    """The role does not exist, or its trust policy does not trust the service."""


@dataclass(frozen=True)
class RoleCredentials:
    """A session's credentials, as a metadata service or a function's environment carries them."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at: float
    """epoch seconds"""


@dataclass(frozen=True)
class RoleSession:
    """Who makes a call: a role, assumed by a service."""

    role_name: str
    role_arn: str
    session_name: str
    service: str
    """lambda.amazonaws.com | ec2.amazonaws.com"""


_sessions: dict[str, RoleSession] = {}


def session_of(access_key_id: str) -> RoleSession | None:
    """Return the session an access key belongs to; None for an operator's key."""
    return _sessions.get(access_key_id)


def assume_role_for_service(
    world: World, *, role_arn: str, service: str, session_name: str
) -> RoleCredentials:
    """Assume a role as `service` does; every call made with the result is enforced and recorded."""
    name = role_arn.rsplit("/", 1)[-1]
    with world.lock:
        role = next((r for r in iam_backends[world.account_id]["aws"].roles.values() if r.name == name), None)
        if role is None:
            raise CannotAssumeRoleError(f"there is no role {role_arn}")
        request = Request(action="sts:AssumeRole", resource=None, context={}, service=service)
        if evaluate([parse_policy(role.assume_role_policy_document)], request) is not Decision.ALLOW:
            raise CannotAssumeRoleError(f"the trust policy of {role_arn} does not let {service} assume it")
        session = sts_backends[world.account_id]["aws"].assume_role(
            region_name=world.region,
            role_session_name=session_name,
            role_arn=role.arn,
            policy=None,
            duration=SESSION_SECONDS,
            external_id="",
        )
    _sessions[session.access_key_id] = RoleSession(name, role.arn, session_name, service)
    return RoleCredentials(
        session.access_key_id,
        session.secret_access_key,
        session.session_token,
        session.expiration.replace(tzinfo=UTC).timestamp(),
    )
