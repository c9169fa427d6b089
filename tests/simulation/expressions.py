"""DynamoDB's expressions, as far as conditions go: comparisons, functions, AND, OR, NOT, BETWEEN, IN.

After the Developer Guide, "Condition and filter expressions, operators, and functions". What is not known
here raises NotImplementedError rather than being taken for true.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

_TOKEN = re.compile(r"\s*(<>|<=|>=|[=<>(),]|[#:]?[A-Za-z_][A-Za-z0-9_.]*)")
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MISSING = object()


# Says whether an item fulfils a condition, whose names and values are given beside.
Condition = Callable[[Mapping[str, Any], Mapping[str, str], Mapping[str, Any]], bool]
Operand = Callable[[Mapping[str, Any], Mapping[str, str], Mapping[str, Any]], Any]


def holds(
    expression: str, item: Mapping[str, Any], *, names: Mapping[str, str], values: Mapping[str, Any]
) -> bool:
    """Say whether an item, with typed attributes, fulfils a condition."""
    return condition(expression)(item, names, values)


@cache
def condition(expression: str) -> Condition:
    """Return an expression, understood. Raises NotImplementedError where it is not."""
    parser = _Parser(_tokens(expression))
    result = parser.either()
    if parser.rest:
        raise NotImplementedError(f"{expression!r}: {parser.rest} is not understood")
    return result


def _tokens(expression: str) -> list[str]:
    tokens, at = [], 0
    while at < len(expression.rstrip()):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise NotImplementedError(f"{expression!r} at {at} is not understood")
        tokens.append(match.group(1))
        at = match.end()
    return tokens


def plain(value: Mapping[str, Any] | None) -> Any:
    """Return a typed value such that it compares as DynamoDB compares it."""
    if value is None:
        return _MISSING
    ((kind, inner),) = value.items()
    return Decimal(inner) if kind == "N" else inner


class _Parser:
    """Reads an expression from left to right; each method returns what it read, ready to be asked."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.rest = list(tokens)

    def either(self) -> Condition:
        parts = [self._both()]
        while self._takes("OR"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda *given: any(part(*given) for part in parts)

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._takes("AND"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda *given: all(part(*given) for part in parts)

    def _one(self) -> Condition:
        if self._takes("NOT"):
            inner = self._one()
            return lambda *given: not inner(*given)
        if self._takes("("):
            result = self.either()
            self._demand(")")
            return result
        if self.rest[1:2] == ["("]:
            return self._function()
        return self._comparison()

    def _function(self) -> Condition:
        name = self.rest.pop(0)
        self._demand("(")
        subject = self._operand()
        argument = self._operand() if self._takes(",") else subject
        self._demand(")")
        match name:
            case "attribute_exists":
                return lambda *given: subject(*given) is not _MISSING
            case "attribute_not_exists":
                return lambda *given: subject(*given) is _MISSING
            case "begins_with":
                return lambda *given: _begins(subject(*given), argument(*given))
            case "contains":
                return lambda *given: subject(*given) is not _MISSING and argument(*given) in subject(*given)
            case _:
                raise NotImplementedError(f"the function {name} is not known")

    def _comparison(self) -> Condition:
        left = self._operand()
        if self._takes("BETWEEN"):
            low = self._operand()
            self._demand("AND")
            high = self._operand()
            return lambda *given: _between(low(*given), left(*given), high(*given))
        if self._takes("IN"):
            self._demand("(")
            options = [self._operand()]
            while self._takes(","):
                options.append(self._operand())
            self._demand(")")
            return lambda *given: left(*given) in [option(*given) for option in options]
        sign = self.rest.pop(0)
        compare, right = _COMPARISONS[sign], self._operand()
        return lambda *given: _compared(compare, left(*given), right(*given), missing=sign == "<>")

    def _operand(self) -> Operand:
        token = self.rest.pop(0)
        if token.startswith(":"):
            return lambda _item, _names, values: plain(values[token])
        if token.startswith("#"):
            return lambda item, names, _values: plain(item.get(names[token]))
        return lambda item, _names, _values: plain(item.get(token))

    def _takes(self, token: str) -> bool:
        if self.rest and self.rest[0].upper() == token:
            self.rest.pop(0)
            return True
        return False

    def _demand(self, token: str) -> None:
        if not self._takes(token):
            raise NotImplementedError(f"{token} is expected, not {self.rest[:1]}")


def _begins(value: Any, beginning: Any) -> bool:
    return isinstance(value, str) and value.startswith(str(beginning))


def _between(low: Any, value: Any, high: Any) -> bool:
    return value is not _MISSING and bool(low <= value <= high)


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any, *, missing: bool) -> bool:
    if left is _MISSING or right is _MISSING:
        return missing
    return bool(compare(left, right))
