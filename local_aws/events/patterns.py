"""Event patterns as EventBridge matches them. Pure.

After https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html. Matching is
moto's; what it would take for granted (an operator it does not know matches everything) is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPERATORS = frozenset(
    {
        "anything-but",
        "cidr",
        "equals-ignore-case",
        "exists",
        "numeric",
        "prefix",
        "suffix",
        "wildcard",
    }
)


class BadPatternError(ValueError):
    """EventBridge would refuse the pattern, or it uses an operator nobody knows; the message says where."""


def check_pattern(pattern: Mapping[str, Any], path: str = "") -> None:
    """Raise `BadPatternError` unless the pattern is one that can be matched as AWS does."""
    if not pattern and not path:
        raise BadPatternError("an event pattern must not be empty")
    for key, value in pattern.items():
        here = f"{path}.{key}" if path else key
        if key == "$or":
            if not isinstance(value, list) or len(value) < 2:
                raise BadPatternError(f"{here} must list at least two patterns")
            for alternative in value:
                check_pattern(alternative, here)
        elif isinstance(value, dict):
            check_pattern(value, here)
        elif isinstance(value, list):
            _check_matchers(value, here)
        else:
            raise BadPatternError(f"{here} must be an object or an array")


def _check_matchers(matchers: list[Any], path: str) -> None:
    if not matchers:
        raise BadPatternError(f"{path}: empty arrays are not allowed")
    for matcher in matchers:
        if isinstance(matcher, dict):
            if len(matcher) != 1 or next(iter(matcher)) not in OPERATORS:
                raise BadPatternError(f"{path}: unrecognized match type {', '.join(matcher) or '(none)'}")
        elif isinstance(matcher, list):
            raise BadPatternError(f"{path}: arrays must not be nested")
