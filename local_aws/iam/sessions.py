"""Roles assumed by Lambda, EC2 or a role of theirs: trust policies honoured, sessions known by access key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends
from moto.sts.responses import TokenResponse

from local_aws.iam.policy import Decision, Request, evaluate, parse_policy
from local_aws.moto_override import wrap
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
    """Who makes a call: a role, assumed by a service, or by a role that a service had assumed."""

    role_name: str
    role_arn: str
    session_name: str
    service: str
    """lambda.amazonaws.com | ec2.amazonaws.com; empty where a role assumed it"""


_sessions: dict[str, RoleSession] = {}


def session_of(access_key_id: str) -> RoleSession | None:
    """Return the session an access key belongs to; None for an operator's key."""
    return _sessions.get(access_key_id)


def install() -> None:
    """Enforce roles also on what a role's session assumes; moto gives out keys and asks for no trust."""

    def assumed(original: Callable[[Any], Any], response: Any) -> Any:
        caller = session_of(response.get_access_key())
        answer = original(response)
        if caller is not None:
            role_arn, name = response._get_param("RoleArn"), response._get_param("RoleSessionName")
            key = answer.result["Credentials"].access_key_id
            _sessions[key] = RoleSession(role_arn.rsplit("/", 1)[-1], role_arn, name, service="")
        return answer

    wrap(TokenResponse, "assume_role", assumed)


def distrust(world: World, *, role_arn: str, principal: str) -> str | None:
    """Return why a role's trust policy keeps another role from assuming it, or None."""
    name = role_arn.rsplit("/", 1)[-1]
    role = next((r for r in iam_backends[world.account_id]["aws"].roles.values() if r.name == name), None)
    request = Request(action="sts:AssumeRole", resource=None, principal=principal)
    if role and evaluate([parse_policy(role.assume_role_policy_document)], request) is Decision.ALLOW:
        return None
    return f"{principal} is not authorized to perform sts:AssumeRole on {role_arn}: it is not trusted there"


def assume_role_for_service(
    world: World, *, role_arn: str, service: str, session_name: str, source_arn: str | None = None
) -> RoleCredentials:
    """Assume a role as `service` does; every call made with the result is enforced and recorded.

    `source_arn` is the resource that the service does it for, where it says so (EventBridge Scheduler does).
    """
    name = role_arn.rsplit("/", 1)[-1]
    with world.lock:
        role = next((r for r in iam_backends[world.account_id]["aws"].roles.values() if r.name == name), None)
        if role is None:
            raise CannotAssumeRoleError(f"there is no role {role_arn}")
        source = {"aws:SourceArn": source_arn, "aws:SourceAccount": world.account_id} if source_arn else {}
        request = Request(action="sts:AssumeRole", resource=None, context=source, service=service)
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
