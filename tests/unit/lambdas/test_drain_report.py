"""A node's report is taken for what it surely says, and for nothing where it is not whole."""

from __future__ import annotations

import json

import pytest
from spot_failover.outcomes import Outcome
from track_incident.drain_report import parse_drain_report

REPORT = {
    "instance_id": "i-1",
    "trigger": "command",
    "started_at": "2026-11-23T13:38:01.100Z",
    "finished_at": "2026-11-23T13:38:31.600+00:00",
    "seconds": 30.5,
    "deadline": "2026-11-23T13:40:00Z",
    "in_flight_at_start": 6,
    "finished": 6,
    "cut": 0,
    "engine_exit": "graceful",
    "outcome": "drained",
}


@pytest.mark.parametrize(
    ("output", "outcome"),
    [
        (json.dumps({**REPORT, "outcome": "cut", "cut": 2}), Outcome.CUT),
        ("", None),
        ("Killed", None),
        ("[]", None),
        ("[" * 100_000, None),
        (json.dumps(REPORT)[:-5], None),
        (json.dumps({**REPORT, "outcome": "fine"}), None),
        (json.dumps({**REPORT, "outcome": ["drained"]}), None),
        (json.dumps({**REPORT, "finished_at": "yesterday"}), None),
        (json.dumps({**REPORT, "finished_at": "2026-11-23T13:38:31"}), None),
        (json.dumps({**REPORT, "started_at": None}), None),
        (json.dumps({**REPORT, "in_flight_at_start": None, "seconds": float("nan")}), Outcome.DRAINED),
        (json.dumps({**REPORT, "in_flight_at_start": True, "finished": -1, "cut": 2.5}), Outcome.DRAINED),
    ],
)
def test_whatever_a_command_printed_is_a_report_or_none(output: str, outcome: Outcome | None) -> None:
    report = parse_drain_report(output)
    assert (report.outcome if report else None) is outcome


@pytest.mark.parametrize("behind", ["", "\n\n", "\n----------ERROR-------\nno tty\n", '\n{"no": "report"}'])
def test_a_report_is_the_last_that_the_output_has(behind: str) -> None:
    earlier = json.dumps({**REPORT, "in_flight_at_start": 9})
    report = parse_drain_report(f"joined a drain\n{earlier}\n{json.dumps(REPORT)}{behind}")
    assert report is not None
    assert report.detail["in_flight_at_start"] == 6


def test_values_that_are_no_counts_or_numbers_are_left_out() -> None:
    odd = {**REPORT, "in_flight_at_start": True, "finished": -1, "cut": 2.5, "seconds": float("nan")}
    report = parse_drain_report(json.dumps(odd))
    assert report is not None
    assert report.detail.keys() == {"started_at", "finished_at", "trigger", "engine_exit"}
