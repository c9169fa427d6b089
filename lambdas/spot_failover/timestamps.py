"""Times as they are written in events and in the incidents table: ISO 8601, UTC, ending in `Z`."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_UTC_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z")


def utc_now() -> datetime:
    """Return the time, aware, in UTC. The one clock of the functions."""
    return datetime.now(UTC)


def parse_utc(text: str) -> datetime:
    """Read `2026-11-23T13:38:00Z`, with or without a fraction. Raises ValueError for anything else."""
    if not _UTC_TIME.fullmatch(text):
        raise ValueError(f"{text!a} is not a UTC time like 2026-11-23T13:38:00Z")
    return datetime.fromisoformat(text)


def format_milliseconds(moment: datetime) -> str:
    """Write `2026-11-23T13:38:00.123Z`: the table's form, in which text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_seconds(moment: datetime) -> str:
    """Write `2026-11-23T13:38:00Z`, rounded down: the form of the drain document's parameter."""
    return moment.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")
