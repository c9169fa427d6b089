"""Whether a role may make a call: its policies, the call's resources, their tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moto.iam.models import Role, iam_backends

from local_aws.endpoint.calls import CallLog
from local_aws.iam.conditions import ContextValue, UnsupportedConditionError
from local_aws.iam.policy import (
    Decision,
    Request,
    Statement,
    evaluate,
    matching_but_for_conditions,
    parse_policy,
)
from local_aws.iam.resources import Target, UnknownActionError, targets_of
from local_aws.iam.sessions import RoleSession, distrust
from local_aws.world import World

# As the service authorization reference spells them.
_TAG_KEYS = {
    "autoscaling": "autoscaling:ResourceTag",
    "ec2": "ec2:ResourceTag",
    "elasticloadbalancing": "elasticloadbalancing:ResourceTag",
    "ssm": "ssm:resourceTag",
}


@dataclass(frozen=True)
class Verdict:
    """What a call works on, and why it is refused (None: it is not)."""

    targets: Sequence[Target]
    denial: str | None


class Authorizer:
    """Judges calls by the policies that roles have at that moment."""

    def __init__(self, world: World, calls: CallLog) -> None:
        self._world = world
        self._calls = calls

    def judge(self, session: RoleSession, action: str, params: Mapping[str, Any]) -> Verdict:
        """Judge a call of a role."""
        try:
            targets = targets_of(self._world, action, params)
        except UnknownActionError:
            text = f"{action} is unknown to the local AWS's IAM (iam_resources), so no role may call it"
            return Verdict((), text)
        for target in targets:
            if denial := self.denial(session.role_name, target, self._context(session)):
                return Verdict(targets, denial)
            if target.action == "sts:AssumeRole" and (
                denial := distrust(self._world, role_arn=target.arn, principal=session.role_arn)
            ):
                return Verdict(targets, denial)
        return Verdict(targets, None)

    def denied_to_service(self, *, role_arn: str, by: str, action: str, arn: str) -> str | None:
        """Return why a service may not do this with a role (as Lambda polls a queue), or None."""
        role = role_arn.rsplit("/", 1)[-1]
        session = RoleSession(role_name=role, role_arn=role_arn, session_name=by, service=by)
        with self._world.lock:
            denial = self.denial(role, Target(action, arn), self._context(session))
        result = "AccessDenied" if denial else "ok"
        self._calls.record(action=action, resources=[arn], result=result, role=role, by=by)
        return denial

    def denial(self, role_name: str, target: Target, context: Mapping[str, ContextValue]) -> str | None:
        """Return why a role may not act on a target, or None."""
        if target.action == "sts:GetCallerIdentity":
            return None
        role = iam_backends[self._world.account_id]["aws"].get_role(role_name)
        request = Request(target.action, target.arn, {**context, **_tag_context(target), **target.context})
        try:
            decisions = [(layer, evaluate(layer, request)) for layer in self._layers(role)]
        except UnsupportedConditionError as err:
            return f"the local AWS cannot evaluate a policy of {role_name}: {err}"
        for layer, decision in decisions:
            if decision is not Decision.ALLOW:
                return _explain(role, target, layer, request, decision)
        return None

    def _layers(self, role: Role) -> list[list[tuple[Statement, ...]]]:
        """Return the role's policies and, if it has one, its permissions boundary: each has to allow."""
        own = [parse_policy(document) for document in role.policies.values()]
        own += [_default_version(policy) for policy in role.managed_policies.values()]
        if not role.permissions_boundary_arn:
            return [own]
        boundary = iam_backends[self._world.account_id]["aws"].get_policy(role.permissions_boundary_arn)
        return [own, [_default_version(boundary)]]

    def _context(self, session: RoleSession) -> dict[str, ContextValue]:
        account = self._world.account_id
        return {
            "aws:PrincipalAccount": account,
            "aws:PrincipalArn": session.role_arn,
            "aws:PrincipalType": "AssumedRole",
            "aws:RequestedRegion": self._world.region,
            "aws:ResourceAccount": account,
            "aws:SecureTransport": "true",
            **_instance_context(self._world, session),
        }


def _default_version(policy: Any) -> tuple[Statement, ...]:
    return parse_policy(next(v.document for v in policy.versions if v.is_default))


def _tag_context(target: Target) -> dict[str, ContextValue]:
    """Return the target's tags under the general condition key and under its service's own."""
    service = target.action.split(":", 1)[0]
    keys = {"aws:ResourceTag", _TAG_KEYS.get(service, "aws:ResourceTag")}
    return {f"{key}/{name}": value for key in keys for name, value in target.tags.items()}


def _instance_context(world: World, session: RoleSession) -> dict[str, ContextValue]:
    if session.service != "ec2.amazonaws.com":
        return {}
    arn = f"arn:aws:ec2:{world.region}:{world.account_id}:instance/{session.session_name}"
    return {"ec2:SourceInstanceARN": arn, "aws:userid": f"{session.role_name}:{session.session_name}"}


def _explain(
    role: Role, target: Target, layer: Sequence[tuple[Statement, ...]], request: Request, decision: Decision
) -> str:
    text = f"{role.arn} is not authorized to perform {target.action} on {target.arn}: {decision.value}"
    unmet = matching_but_for_conditions(layer, request)
    return f"{text}; conditions not met: {', '.join(unmet)}" if unmet else text
