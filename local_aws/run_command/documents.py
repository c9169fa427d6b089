"""Command documents: checks a document's parameters and turns its steps into scripts. Pure functions.

Syntax and checks: Systems Manager user guide, "Data elements and parameters" and "Command document plugin
reference". Schema 2.2 with `aws:runShellScript` is what is run; anything else is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PLACEHOLDER = re.compile(r"\{\{\s*([\w:-]+)\s*\}\}")
_DEFAULT_TIMEOUT_SECONDS = 3600.0


class InvalidParametersError(Exception):
    """The parameters do not fit the document: SSM's InvalidParameters."""


class UnsupportedDocumentError(Exception):
    """The document does what the local AWS does not emulate."""


@dataclass(frozen=True)
class Step:
    """One step of a document, ready to run on Linux."""

    name: str
    script: str
    timeout_seconds: float
    working_directory: str | None


def resolve_parameters(document: Mapping[str, Any], given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return each parameter's value: a string, or a list of strings for a StringList.

    Raises InvalidParametersError for one that the document does not have, needs, or does not admit.
    """
    declared: Mapping[str, Mapping[str, Any]] = document.get("parameters") or {}
    unknown = sorted(given.keys() - declared.keys())
    if unknown:
        raise InvalidParametersError(f"The document has no parameter {', '.join(unknown)}.")
    return {name: _value(name, rule, given.get(name)) for name, rule in declared.items()}


def _value(name: str, rule: Mapping[str, Any], given: Sequence[str] | None) -> Any:
    kind = rule["type"]
    if given is None:
        if "default" not in rule:
            raise InvalidParametersError(f"Parameter {name} is required.")
        return rule["default"]
    if kind == "StringList":
        values = list(given)
    elif kind in ("String", "Integer", "Boolean"):
        if len(given) != 1:
            raise InvalidParametersError(f"Parameter {name} takes one value, not {len(given)}.")
        values = list(given)
    else:
        raise UnsupportedDocumentError(f"parameter {name} is of type {kind}")
    for value in values:
        _admit(name, rule, value)
    return values if kind == "StringList" else values[0]


def _admit(name: str, rule: Mapping[str, Any], value: str) -> None:
    pattern, allowed = rule.get("allowedPattern"), rule.get("allowedValues")
    kind = rule["type"]
    if kind == "Integer" and not re.fullmatch(r"-?\d+", value):
        raise InvalidParametersError(f"Parameter {name} must be an integer.")
    if kind == "Boolean" and value not in ("true", "false"):
        raise InvalidParametersError(f"Parameter {name} must be true or false.")
    if pattern is not None and re.search(pattern, value) is None:
        raise InvalidParametersError(f"Parameter {name} does not match the pattern {pattern}.")
    if allowed is not None and value not in allowed:
        raise InvalidParametersError(f"Parameter {name} must be one of {', '.join(allowed)}.")
    if not int(rule.get("minChars", 0)) <= len(value) <= int(rule.get("maxChars", len(value))):
        raise InvalidParametersError(f"Parameter {name} has {len(value)} characters.")


def linux_steps(document: Mapping[str, Any], values: Mapping[str, Any]) -> list[Step]:
    """Return the steps that run on Linux, with `{{ parameters }}` filled in.

    Raises UnsupportedDocumentError.
    """
    if document.get("schemaVersion") != "2.2":
        raise UnsupportedDocumentError(f"schema version {document.get('schemaVersion')}")
    steps = [step for step in document["mainSteps"] if _applies(step.get("precondition"))]
    return [_step(step, document.get("parameters") or {}, values) for step in steps]


def _applies(precondition: Mapping[str, Sequence[str]] | None) -> bool:
    if not precondition:
        return True
    left, right = precondition.get("StringEquals", ("", ""))
    if precondition.keys() != {"StringEquals"} or left != "platformType":
        raise UnsupportedDocumentError(f"precondition {json.dumps(precondition)}")
    return right == "Linux"


def _step(step: Mapping[str, Any], declared: Mapping[str, Any], values: Mapping[str, Any]) -> Step:
    if step["action"] != "aws:runShellScript":
        raise UnsupportedDocumentError(f"action {step['action']}")
    if any(rule.get("interpolationType") for rule in declared.values()):
        raise UnsupportedDocumentError("interpolationType")
    inputs = step["inputs"]
    return Step(
        name=step["name"],
        script="\n".join(_lines(inputs["runCommand"], values)) + "\n",
        timeout_seconds=float(_fill(str(inputs.get("timeoutSeconds", _DEFAULT_TIMEOUT_SECONDS)), values)),
        working_directory=_fill(inputs.get("workingDirectory", ""), values) or None,
    )


def _lines(lines: str | Sequence[str], values: Mapping[str, Any]) -> list[str]:
    # A StringList in the place of the whole list gives its lines, as in AWS-RunShellScript.
    whole = _PLACEHOLDER.fullmatch(lines) if isinstance(lines, str) else None
    if whole is not None and isinstance(values.get(whole[1]), list):
        return list(values[whole[1]])
    return [_fill(line, values) for line in ([lines] if isinstance(lines, str) else lines)]


def _fill(text: str, values: Mapping[str, Any]) -> str:
    def value_of(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise UnsupportedDocumentError(f"nothing to put in the place of {match[0]}")
        value = values[match[1]]
        return value if isinstance(value, str) else json.dumps(value)

    return _PLACEHOLDER.sub(value_of, text)
