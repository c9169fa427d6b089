"""Points in time as the project writes them: ISO 8601 in UTC."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_UTC = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})(?:\.(\d{1,6})\d*)?(?:Z|\+00:00)")


def parse_utc(text: str) -> float:
    """Return epoch seconds of a time such as `2026-11-23T13:40:00Z`. Raises ValueError for anything else."""
    # Python 3.9's fromisoformat knows neither Z nor three digits of a second.
    match = _UTC.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time in UTC: {text!r}")
    day, time, fraction = match.groups()
    whole = datetime.strptime(f"{day} {time}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
    return whole.timestamp() + float(f"0.{fraction or 0}")


def format_utc(epoch_seconds: float) -> str:
    """Return the time with milliseconds and Z."""
    moment = datetime.fromtimestamp(round(epoch_seconds, 3), tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
