"""IAM policy evaluation: statements, wildcards, conditions. Pure.

After https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html:
an explicit deny wins, then any allow, else nothing is allowed. What is not understood is an error, never an
allow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from local_aws.iam.conditions import conditions_met, substitute

ContextValue = str | Sequence[str]


class Decision(Enum):
    """What the policies together say."""

    ALLOW = "allowed"
    IMPLICIT_DENY = "not allowed by any statement"
    EXPLICIT_DENY = "explicitly denied"


@dataclass(frozen=True)
class Request:
    """One action on one resource. `resource` is None where a policy has no Resource (trust policies)."""

    action: str
    resource: str | None
    context: Mapping[str, ContextValue] = field(default_factory=dict)
    """Condition keys, with their values; keys compare case-insensitively."""
    service: str | None = None
    """The service principal that asks, for policies with a Principal."""
    principal: str | None = None
    """ARN of the role that asks, for policies with a Principal."""


@dataclass(frozen=True)
class Statement:
    """One statement; absent elements are None."""

    allow: bool
    actions: tuple[str, ...] | None
    not_actions: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    not_resources: tuple[str, ...] | None
    principal: Any
    condition: Mapping[str, Mapping[str, Any]]


def parse_policy(document: str | Mapping[str, Any]) -> tuple[Statement, ...]:
    """Parse a policy document, JSON text or already parsed."""
    if isinstance(document, str):
        return _parse_text(document)
    statements = document.get("Statement", [])
    return tuple(_statement(each) for each in ([statements] if isinstance(statements, dict) else statements))


@lru_cache(maxsize=512)
def _parse_text(document: str) -> tuple[Statement, ...]:
    return parse_policy(json.loads(document))


def _statement(given: Mapping[str, Any]) -> Statement:
    effect = given.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise ValueError(f"a statement's Effect must be Allow or Deny, not {effect!r}")
    return Statement(
        allow=effect == "Allow",
        actions=_strings(given.get("Action")),
        not_actions=_strings(given.get("NotAction")),
        resources=_strings(given.get("Resource")),
        not_resources=_strings(given.get("NotResource")),
        principal=given.get("Principal"),
        condition=given.get("Condition", {}),
    )


def _strings(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(str(each) for each in value)


def evaluate(policies: Sequence[Sequence[Statement]], request: Request) -> Decision:
    """Decide on one request. Raises `UnsupportedConditionError` when a condition cannot be evaluated."""
    decision = Decision.IMPLICIT_DENY
    for policy in policies:
        for statement in policy:
            if not _applies(statement, request):
                continue
            if not statement.allow:
                return Decision.EXPLICIT_DENY
            decision = Decision.ALLOW
    return decision


def matching_but_for_conditions(policies: Sequence[Sequence[Statement]], request: Request) -> list[str]:
    """Return the conditions that keep statements from allowing the request: for messages that help."""
    return [
        json.dumps(statement.condition)
        for policy in policies
        for statement in policy
        if statement.allow
        and _matches_action(statement, request)
        and _matches_resource(statement, request)
        and not conditions_met(statement.condition, request.context)
    ]


def _applies(statement: Statement, request: Request) -> bool:
    return (
        _matches_principal(statement, request)
        and _matches_action(statement, request)
        and _matches_resource(statement, request)
        and conditions_met(statement.condition, request.context)
    )


def _matches_principal(statement: Statement, request: Request) -> bool:
    asks = request.service or request.principal
    if asks is None or statement.principal is None:
        return statement.principal is None or statement.principal == "*"
    if statement.principal == "*":
        return True
    services = _strings(statement.principal.get("Service")) or ()
    roles = _strings(statement.principal.get("AWS")) or ()
    return asks in (services if request.service else roles) or "*" in roles


def _matches_action(statement: Statement, request: Request) -> bool:
    if statement.not_actions is not None:
        return not any(_like(each.lower(), request.action.lower()) for each in statement.not_actions)
    return any(_like(each.lower(), request.action.lower()) for each in statement.actions or ())


def _matches_resource(statement: Statement, request: Request) -> bool:
    if request.resource is None:
        return True
    patterns = statement.resources if statement.not_resources is None else statement.not_resources
    named = any(
        _like(substituted, request.resource)
        for each in patterns or ()
        if (substituted := substitute(each, request.context)) is not None
    )
    return named if statement.not_resources is None else not named


def _like(pattern: str, value: str) -> bool:
    return pattern == "*" or _compiled(pattern).fullmatch(value) is not None


@lru_cache(maxsize=2048)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (".*" if each == "*" else "." if each == "?" else re.escape(each) for each in pattern)
    return re.compile("".join(parts), re.DOTALL)
