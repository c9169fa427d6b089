"""IAM condition operators. Pure.

After https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

ContextValue = str | Sequence[str]


class UnsupportedConditionError(ValueError):
    """A policy uses a condition operator that is not emulated; the message names it."""


def conditions_met(condition: Mapping[str, Mapping[str, Any]], context: Mapping[str, ContextValue]) -> bool:
    """Whether every operator holds for every of its keys."""
    known = {key.lower(): value for key, value in context.items()}
    return all(
        _holds(operator, known.get(key.lower()), _wanted(wanted, context))
        for operator, keys in condition.items()
        for key, wanted in keys.items()
    )


def substitute(text: str, context: Mapping[str, ContextValue]) -> str | None:
    """Replace policy variables (`${aws:username}`); None when one has no single value."""
    known = {key.lower(): value for key, value in context.items()}
    missing = False

    def value_of(match: re.Match[str]) -> str:
        nonlocal missing
        name = match.group(1)
        if name in ("*", "?", "$"):
            return name
        value = known.get(name.split(",")[0].strip().lower())
        missing = missing or not isinstance(value, str)
        return value if isinstance(value, str) else ""

    replaced = re.sub(r"\$\{([^}]*)\}", value_of, text)
    return None if missing else replaced


def _wanted(value: Any, context: Mapping[str, ContextValue]) -> list[str]:
    values = value if isinstance(value, list) else [value]
    texts = [str(each).lower() if isinstance(each, bool) else str(each) for each in values]
    return [text for each in texts if (text := substitute(each, context)) is not None]


def _holds(operator: str, value: ContextValue | None, wanted: list[str]) -> bool:
    base, quantifier = operator, ""
    if ":" in operator:
        quantifier, base = operator.split(":", 1)
        if quantifier not in ("ForAnyValue", "ForAllValues"):
            raise UnsupportedConditionError(f"condition operator {operator!r} is not emulated")
    if base == "Null":
        return (value is None) == (wanted[0].lower() == "true")
    if_exists = base.endswith("IfExists")
    base = base.removesuffix("IfExists")
    negated, compare = _comparison(base, operator)
    if value is None:
        # A missing key fails every operator but the negated ones, ...IfExists and ForAllValues.
        return if_exists or quantifier == "ForAllValues" or (negated and not quantifier)
    actual = [value] if isinstance(value, str) else list(value)
    hits = [any(compare(each, want) for want in wanted) is not negated for each in actual]
    if quantifier == "ForAnyValue":
        return any(hits)
    return all(hits) if quantifier or len(hits) == 1 or negated else any(hits)


def _comparison(base: str, operator: str) -> tuple[bool, Callable[[str, str], bool]]:
    """Return whether the operator is a negated one, and its comparison of (actual, wanted)."""
    if base in _COMPARISONS:
        return False, _COMPARISONS[base]
    positive = base.replace("Not", "", 1)
    if positive in _COMPARISONS and positive != base:
        return True, _COMPARISONS[positive]
    raise UnsupportedConditionError(f"condition operator {operator!r} is not emulated")


def _like(actual: str, wanted: str) -> bool:
    return _compiled(wanted).fullmatch(actual) is not None


def _arn_like(actual: str, wanted: str) -> bool:
    # Each of an ARN's six parts is matched by itself: a wildcard does not reach over a colon.
    actual_parts, wanted_parts = actual.split(":", 5), wanted.split(":", 5)
    return len(actual_parts) == len(wanted_parts) and all(
        _like(a, w) for a, w in zip(actual_parts, wanted_parts, strict=True)
    )


_COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda actual, wanted: actual == wanted,
    "StringEqualsIgnoreCase": lambda actual, wanted: actual.lower() == wanted.lower(),
    "StringLike": _like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda actual, wanted: actual.lower() == wanted.lower(),
    "NumericEquals": lambda actual, wanted: float(actual) == float(wanted),
    "NumericLessThan": lambda actual, wanted: float(actual) < float(wanted),
    "NumericLessThanEquals": lambda actual, wanted: float(actual) <= float(wanted),
    "NumericGreaterThan": lambda actual, wanted: float(actual) > float(wanted),
    "NumericGreaterThanEquals": lambda actual, wanted: float(actual) >= float(wanted),
}


@lru_cache(maxsize=2048)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = (".*" if each == "*" else "." if each == "?" else re.escape(each) for each in pattern)
    return re.compile("".join(parts), re.DOTALL)
