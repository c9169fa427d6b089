"""Reads systemd's environment files: a command line must see the settings that the unit gave the agent."""

from __future__ import annotations

import os
from collections.abc import Mapping


def parse_env_file(text: str) -> dict[str, str]:
    """Return the assignments of an EnvironmentFile, later ones winning (systemd.exec(5)).

    Understands what this project writes and operators usually do: one assignment a line, comments, bare
    values, and whole values in single or double quotes, the latter with a backslash before a quote, a
    backslash, a backtick or a dollar sign. Lines without an assignment are skipped, as systemd skips them.
    """
    values: dict[str, str] = {}
    for raw in text.splitlines():
        line = raw.strip()
        name, equals, value = line.partition("=")
        if not equals or line[0] in "#;":
            continue
        values[name.strip()] = _unquoted(value.strip())
    return values


def effective_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` over the settings of the files in SPOT_FAILOVER_ENV_FILES (colon-separated).

    A file that is not there adds nothing: the operator's overrides are optional.
    """
    values: dict[str, str] = {}
    for path in filter(None, environment.get("SPOT_FAILOVER_ENV_FILES", "").split(":")):
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                values.update(parse_env_file(file.read()))
    return {**values, **environment}


def _unquoted(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return _unescaped(value[1:-1])
    return value


def _unescaped(value: str) -> str:
    out: list[str] = []
    characters = iter(value)
    for character in characters:
        if character != "\\":
            out.append(character)
            continue
        following = next(characters, "")
        out.append(following if following in '"\\`$' else character + following)
    return "".join(out)
