"""Messages that once ended a whole batch with an error of our own, or had AWS refuse a call for all of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest
from spot_failover.errors import MalformedMessageError
from track_incident.drain_report import parse_drain_report
from track_incident.events import parse_tracked_event

HALF_A_PAIR = "\ud800"
TOO_LARGE_FOR_A_FLOAT = 10**400


def _bent(sample: Callable[[str], dict[str, Any]], event: str, *path: Any, to: Any) -> str:
    document = json.loads(json.dumps(sample(event)))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return json.dumps(document)


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ("asg_launch_successful", ("detail", "AutoScalingGroupName")),
        ("asg_launch_unsuccessful", ("detail", "StatusMessage")),
        ("node_engine_failed", ("detail", "fleet")),
        ("node_engine_failed", ("detail", "reason")),
        ("node_ready", ("detail", "boot", "phases", 2, "source")),
        ("node_drained", ("detail", "outcome", "trigger")),
        ("ssm_command_invocation_status_change", ("detail", "command-id")),
    ],
)
def test_half_a_surrogate_pair_is_refused_before_a_call_must_carry_it(
    sample: Callable[[str], dict[str, Any]], event: str, path: tuple[Any, ...]
) -> None:
    with pytest.raises(MalformedMessageError, match="surrogate"):
        parse_tracked_event(_bent(sample, event, *path, to=f"a{HALF_A_PAIR}"))


def test_a_message_is_malformed_at_whatever_depth_reading_it_fails() -> None:
    for depth in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit() + 10):
        nested = "[" * depth + "]" * depth
        with pytest.raises(MalformedMessageError):
            parse_tracked_event(f'{{"source": "\\ud83d\\udd25", "nested": {nested}}}')


def test_a_whole_surrogate_pair_is_a_character(sample: Callable[[str], dict[str, Any]]) -> None:
    body = _bent(sample, "node_engine_failed", "detail", "reason", to="\U0001f525")
    assert "\\ud83d" in body
    parse_tracked_event(body)


@pytest.mark.parametrize("name", ["a\0b", "x" * 256])
def test_a_group_that_cannot_exist_is_not_asked_for(
    sample: Callable[[str], dict[str, Any]], name: str
) -> None:
    for path in (("asg_launch_successful", "AutoScalingGroupName"), ("node_ready", "fleet")):
        with pytest.raises(MalformedMessageError):
            parse_tracked_event(_bent(sample, path[0], "detail", path[1], to=name))


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_launch_at_the_edge_of_the_calendar_is_malformed(
    sample: Callable[[str], dict[str, Any]], time: str
) -> None:
    with pytest.raises(MalformedMessageError, match="not a time of ours"):
        parse_tracked_event(_bent(sample, "asg_launch_successful", "detail", "StartTime", to=time))


@pytest.mark.parametrize("number", [TOO_LARGE_FOR_A_FLOAT, -TOO_LARGE_FOR_A_FLOAT, 1e300, float("nan")])
def test_a_number_that_no_table_can_hold_is_left_out(
    sample: Callable[[str], dict[str, Any]], number: float
) -> None:
    ready = parse_tracked_event(
        _bent(sample, "node_ready", "detail", "boot", "phases", 3, "bytes", to=number)
    )
    assert "bytes" not in ready.boot.phases[3]  # type: ignore[union-attr]
    drained = parse_tracked_event(_bent(sample, "node_drained", "detail", "outcome", "seconds", to=number))
    assert "seconds" not in drained.report.detail  # type: ignore[union-attr]


def test_a_commands_output_with_half_a_pair_holds_no_report(sample: Callable[[str], dict[str, Any]]) -> None:
    report = sample("node_drained")["detail"]["outcome"]
    assert parse_drain_report(json.dumps(report)) is not None
    assert parse_drain_report(json.dumps({**report, "trigger": HALF_A_PAIR})) is None
