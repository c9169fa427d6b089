"""Reads a systemd service unit as far as the local node's `systemctl` can honour it.

Directives that only harden a service are accepted and have no effect here; any other unknown one is an error,
so that a unit never behaves differently from systemd without anyone noticing. Meaning of the directives:
systemd.service(5), systemd.exec(5), systemd.kill(5).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_HARDENING = frozenset(
    [
        "NoNewPrivileges",
        "ProtectSystem",
        "ProtectHome",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "ProtectClock",
        "ProtectHostname",
        "ProtectProc",
        "RestrictSUIDSGID",
        "RestrictRealtime",
        "RestrictNamespaces",
        "RestrictAddressFamilies",
        "LockPersonality",
        "MemoryDenyWriteExecute",
        "SystemCallArchitectures",
        "SystemCallFilter",
        "CapabilityBoundingSet",
        "AmbientCapabilities",
        "ReadWritePaths",
        "ReadOnlyPaths",
        "UMask",
        "LimitNOFILE",
        "OOMScoreAdjust",
        "User",
        "Group",
        "StandardOutput",
        "StandardError",
        "SyslogIdentifier",
        "SuccessExitStatus",
        "TimeoutStartSec",
        "RuntimeDirectory",
        "RuntimeDirectoryMode",
        "StateDirectory",
        "RemoveIPC",
        "Delegate",
        "Nice",
        "RuntimeDirectoryPreserve",
        "TasksMax",
        # No local node has what a service of ours cleans up: containers.
        "ExecStopPost",
    ]
)
_UNDERSTOOD = frozenset(
    [
        "Type",
        "Environment",
        "EnvironmentFile",
        "ExecStart",
        "ExecStartPre",
        "ExecStartPost",
        "KillMode",
        "KillSignal",
        "TimeoutStopSec",
        "Restart",
        "RestartSec",
        "WorkingDirectory",
        "SendSIGKILL",
    ]
)
_SECONDS = {"": 1.0, "s": 1.0, "sec": 1.0, "ms": 0.001, "min": 60.0, "m": 60.0, "h": 3600.0}


class UnitError(Exception):
    """A unit that the local `systemctl` cannot run as systemd would."""


class KillMode(Enum):
    """Which processes of a service a stop ends: systemd.kill(5)."""

    CONTROL_GROUP = "control-group"
    MIXED = "mixed"
    PROCESS = "process"


class Restart(Enum):
    """When a service that ended is started again: systemd.service(5)."""

    NO = "no"
    ALWAYS = "always"
    ON_FAILURE = "on-failure"


@dataclass(frozen=True)
class EnvironmentFile:
    """A file of KEY=value lines; one that is `optional` may be missing."""

    path: Path
    optional: bool


@dataclass(frozen=True)
class Unit:
    """One service. Seconds are floats; paths are as the unit names them."""

    name: str
    type: str
    exec_start_pre: tuple[tuple[str, ...], ...]
    exec_start: tuple[str, ...]
    exec_start_post: tuple[tuple[str, ...], ...]
    environment: tuple[tuple[str, str], ...]
    environment_files: tuple[EnvironmentFile, ...]
    kill_mode: KillMode
    kill_signal: str
    timeout_stop_seconds: float
    restart: Restart
    restart_seconds: float
    working_directory: Path | None


def parse_unit(name: str, text: str) -> Unit:
    """Parse a unit's text. Raises UnitError for a directive whose effect is not emulated here."""
    service = _service_section(name, text)
    starts = service.get("ExecStart", [])
    if len(starts) != 1:
        raise UnitError(f"{name}: exactly one ExecStart is supported, found {len(starts)}")
    kind = _last(service, "Type", "simple")
    if kind not in ("simple", "exec", "oneshot"):
        raise UnitError(f"{name}: Type={kind} is not supported")
    directory = _last(service, "WorkingDirectory", "").lstrip("-")
    return Unit(
        name=name,
        type=kind,
        exec_start_pre=tuple(_command(name, line) for line in service.get("ExecStartPre", [])),
        exec_start=_command(name, starts[0]),
        exec_start_post=tuple(_command(name, line) for line in service.get("ExecStartPost", [])),
        environment=tuple(_assignments(service.get("Environment", []))),
        environment_files=tuple(
            EnvironmentFile(Path(line.lstrip("-")), line.startswith("-"))
            for line in service.get("EnvironmentFile", [])
        ),
        kill_mode=KillMode(_last(service, "KillMode", KillMode.CONTROL_GROUP.value)),
        kill_signal=_last(service, "KillSignal", "SIGTERM"),
        timeout_stop_seconds=parse_seconds(_last(service, "TimeoutStopSec", "90")),
        restart=Restart(_last(service, "Restart", Restart.NO.value)),
        restart_seconds=parse_seconds(_last(service, "RestartSec", "100ms")),
        working_directory=Path(directory) if directory else None,
    )


def _service_section(name: str, text: str) -> dict[str, list[str]]:
    section, found = "", dict[str, list[str]]()
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped.startswith("["):
            section = stripped
        elif section == "[Service]":
            key, _, value = (part.strip() for part in stripped.partition("="))
            if key not in _UNDERSTOOD | _HARDENING:
                raise UnitError(f"{name}: {key}= is not supported by the local systemctl")
            # An empty assignment clears what was set before: systemd.syntax(7).
            found[key] = [*found.get(key, []), value] if value else []
    return found


def _last(service: Mapping[str, list[str]], key: str, default: str) -> str:
    values = service.get(key)
    return values[-1] if values else default


def _command(name: str, line: str) -> tuple[str, ...]:
    if "%" in line.replace("%%", ""):
        raise UnitError(f"{name}: specifiers are not supported: {line}")
    return tuple(shlex.split(line.replace("%%", "%").lstrip("@-:+!")))


def _assignments(lines: list[str]) -> list[tuple[str, str]]:
    pairs = (word.partition("=") for line in lines for word in shlex.split(line))
    return [(key, value) for key, _, value in pairs]


def parse_seconds(text: str) -> float:
    """Parse a time span such as `5`, `500ms` or `1min 30s` into seconds; `infinity` is a float infinity."""
    if text == "infinity":
        return float("inf")
    spans = re.findall(r"([\d.]+)\s*([a-z]*)", text)
    if not spans or any(suffix not in _SECONDS for _, suffix in spans):
        raise UnitError(f"not a time span: {text}")
    return sum(float(number) * _SECONDS[suffix] for number, suffix in spans)


def parse_environment_file(text: str) -> dict[str, str]:
    """Parse KEY=value lines as systemd does: quotes are removed, # and ; begin a comment line."""
    values = {}
    for line in text.splitlines():
        stripped = line.strip()
        key, equals, value = stripped.partition("=")
        if equals and stripped[0] not in "#;":
            values[key.strip()] = _unquote(value.strip())
    return values


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return value[1:-1]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return re.sub(r'\\(["\\$`])', r"\1", value[1:-1])
    return value


def locate(root: Path, path: str | Path) -> Path:
    """Return where an absolute path lies on this node: under its root if it is there, else as written."""
    text = str(path)
    if text.startswith(str(root)):
        return Path(text)
    inside = root / text.lstrip("/")
    return inside if inside.exists() else Path(text)


def service_environment(unit: Unit, root: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the machine's environment, then Environment=, then each EnvironmentFile= in order."""
    environment = {**inherited, **dict(unit.environment)}
    for file in unit.environment_files:
        path = locate(root, file.path)
        if path.exists():
            environment.update(parse_environment_file(path.read_text()))
        elif not file.optional:
            raise UnitError(f"{unit.name}: no environment file {file.path}")
    return environment


def expand_command(command: tuple[str, ...], root: Path, environment: Mapping[str, str]) -> list[str]:
    """Substitute `$NAME` (split into words when it stands alone) and `${NAME}`, and locate the program."""
    words: list[str] = []
    for word in command:
        alone = re.fullmatch(r"\$(\w+)", word)
        if alone:
            words += environment.get(alone[1], "").split()
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda m: environment.get(m[1], ""), word))
    program = words[0]
    return [str(locate(root, program)) if os.path.isabs(program) else program, *words[1:]]
