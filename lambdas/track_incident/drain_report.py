"""What a node says about its drain: a line of the command's output, or an event's `outcome`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spot_failover.envelopes import is_modern, is_unicode
from spot_failover.outcomes import Outcome
from spot_failover.timestamps import format_milliseconds

TIMES = ("started_at", "finished_at")
COUNTS = ("in_flight_at_start", "finished", "cut")
TEXTS = ("trigger", "engine_exit")
LONGEST_SECONDS = 10**6  # of a drain: more is no time, and much more no number of DynamoDB's
OUTCOMES = {"drained": Outcome.DRAINED, "cut": Outcome.CUT}


@dataclass(frozen=True)
class DrainReport:
    """A drain that a node reports to be over. `detail` is what of it is recorded, checked, as JSON values."""

    outcome: Outcome
    finished_at: datetime
    detail: Mapping[str, Any]


def parse_drain_report(output: str) -> DrainReport | None:
    """Return the last whole report among the lines of a command's output, or None.

    Run Command puts what went to the standard error behind it.
    """
    for line in reversed(output.splitlines()):
        try:
            report = read_drain_report(json.loads(line)) if is_unicode(line) else None
        except (ValueError, RecursionError):
            continue
        if report is not None:
            return report
    return None


def read_drain_report(report: object) -> DrainReport | None:
    """Return a report, checked, or None where it is no whole one.

    A node may be older or newer than this function, so fields it leaves out or adds are not held against it;
    the outcome and the times are.
    """
    if not isinstance(report, dict):
        return None
    outcome = report.get("outcome")
    times = {name: _time(report.get(name)) for name in TIMES}
    finished_at = times["finished_at"]
    if not isinstance(outcome, str) or outcome not in OUTCOMES or finished_at is None:
        return None
    if times["started_at"] is None:
        return None
    return DrainReport(OUTCOMES[outcome], finished_at, _detail(report, times))


def _detail(report: Mapping[str, Any], times: Mapping[str, datetime | None]) -> dict[str, Any]:
    detail: dict[str, Any] = {name: format_milliseconds(moment) for name, moment in times.items() if moment}
    detail |= {name: report[name] for name in COUNTS if _is_count(report.get(name))}
    detail |= {name: report[name][:64] for name in TEXTS if isinstance(report.get(name), str)}
    seconds = report.get("seconds")
    if isinstance(seconds, (int, float)) and 0 <= seconds <= LONGEST_SECONDS:  # NaN is not within
        detail["seconds"] = round(float(seconds), 3)
    return detail


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


def _time(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return moment if moment and moment.utcoffset() is not None and is_modern(moment) else None
    except (ValueError, OverflowError):
        return None
