"""What a node says about its boot: when its machine started, its phases, and what the boot waited for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spot_failover import envelopes
from spot_failover.errors import MalformedMessageError
from spot_failover.timestamps import format_milliseconds

# A node may be newer than this function and know further phases; it cannot fill the table with them.
MOST_PHASES = 16
MOST_FURTHER_FIELDS = 8
LONGEST_TEXT = 64
LONGEST_SECONDS = 86_400.0
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True)
class BootReport:
    """A boot as a node tells it. `path` is in seconds; its parts add up to the boot."""

    booted_at: datetime | None
    path: Mapping[str, float]
    phases: tuple[Mapping[str, Any], ...]

    @property
    def detail(self) -> dict[str, Any]:
        """Return what of it is recorded, as JSON values."""
        booted_at = None if self.booted_at is None else format_milliseconds(self.booted_at)
        return {"booted_at": booted_at, "path": dict(self.path), "phases": [dict(one) for one in self.phases]}


def read_boot_report(fields: object) -> BootReport:
    """Read a boot. Raises MalformedMessageError, saying what is wrong, for anything that is not one."""
    if not isinstance(fields, dict):
        raise MalformedMessageError("boot is not an object")
    path, phases = fields.get("path"), fields.get("phases")
    if not isinstance(path, dict) or len(path) > MOST_PHASES:
        raise MalformedMessageError(f"boot.path is not an object of up to {MOST_PHASES} parts")
    if not isinstance(phases, list) or len(phases) > MOST_PHASES:
        raise MalformedMessageError(f"boot.phases is not a list of up to {MOST_PHASES} phases")
    return BootReport(
        booted_at=None if fields.get("booted_at") is None else envelopes.modern_time(fields, "booted_at"),
        path={phase_name(name): _seconds(value) for name, value in path.items()},
        phases=tuple(_phase(one) for one in phases),
    )


def phase_name(value: object) -> str:
    """Return the value as a phase's name. Raises MalformedMessageError."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise MalformedMessageError(f"{ascii(value)[:60]} is not a phase's name")
    return value


def _phase(fields: object) -> dict[str, Any]:
    if not isinstance(fields, dict):
        raise MalformedMessageError("a boot's phase is not an object")
    own = {"phase", "started_at", "seconds", "ended"}
    further = [(name, value) for name, value in fields.items() if name not in own and _is_short(name, value)]
    return {
        "phase": phase_name(fields.get("phase")),
        "started_at": format_milliseconds(envelopes.modern_time(fields, "started_at")),
        "seconds": _seconds(fields.get("seconds")),
        "ended": fields.get("ended") is True,
        **dict(further[:MOST_FURTHER_FIELDS]),
    }


def _seconds(value: object) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= LONGEST_SECONDS:  # type: ignore[operator] # NaN is not within
        raise MalformedMessageError(f"{ascii(value)[:60]} is not a phase's seconds")
    return round(float(value), 3)  # type: ignore[arg-type]


def _is_short(name: object, value: object) -> bool:
    """Whether a phase's further field (where an image came from, bytes) is small enough to keep."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return False
    if isinstance(value, (int, float)):
        return -(10**15) < value < 10**15  # NaN is not within, and an integer may be too large for a float
    return isinstance(value, str) and len(value) <= LONGEST_TEXT
