"""Which schedules the local AWS runs, and how often; what it cannot run it refuses by its name."""

from __future__ import annotations

from typing import Any

import pytest

from local_aws.events.schedules import UnsupportedScheduleError, check, rate_seconds

RUNNABLE: dict[str, Any] = {
    "schedule_expression": "rate(1 minute)",
    "flexible_time_window": {"Mode": "OFF"},
    "target": {
        "Arn": "arn:aws:lambda:us-east-1:123456789012:function:sweep",
        "RoleArn": "arn:aws:iam::123456789012:role/schedule",
        "RetryPolicy": {"MaximumRetryAttempts": 0},
    },
}


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [("rate(1 minute)", 60), ("rate(5 minutes)", 300), ("rate(1 hour)", 3600), ("rate(2 days)", 172800)],
)
def test_a_rate_is_read_in_seconds(expression: str, seconds: float) -> None:
    assert rate_seconds(expression) == seconds


@pytest.mark.parametrize(
    "expression", ["cron(0 12 * * ? *)", "at(2026-11-25T10:00:00)", "rate(0 minutes)", "rate(1 second)", ""]
)
def test_what_is_no_rate_is_refused(expression: str) -> None:
    with pytest.raises(UnsupportedScheduleError, match="at a rate only"):
        rate_seconds(expression)


def test_the_sweepers_kind_of_schedule_is_run() -> None:
    check(RUNNABLE)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"flexible_time_window": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5}}, "flexible"),
        ({"target": {**RUNNABLE["target"], "Arn": "arn:aws:sqs:us-east-1:123456789012:q"}}, "functions only"),
        ({"target": {**RUNNABLE["target"], "RetryPolicy": {"MaximumRetryAttempts": 3}}}, "nothing twice"),
        ({"target": {**RUNNABLE["target"], "RetryPolicy": {}}}, "nothing twice"),
    ],
)
def test_what_would_run_otherwise_on_aws_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedScheduleError, match=reason):
        check(RUNNABLE | change)
