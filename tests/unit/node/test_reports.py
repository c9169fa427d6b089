"""A node's reports: events with its name, in order, sent again until the bus has them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from track_incident import node_events

from gpu_node_bootstrap.node_agent import outbox
from gpu_node_bootstrap.node_agent.errors import AwsCliError
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.reports import LONGEST_REASON, Reporter, accepted
from gpu_node_bootstrap.node_agent.times import parse_utc
from tests.unit.node.reporting_node import INSTANCE_ID, keep_input, settings

TAKES_ALL = (
    """grep -o '"Source"' "$input" | sed 's/.*/{"EventId":"1"}/' | paste -sd, | sed 's/.*/{"Entries":[&]}/'"""
)


@pytest.fixture(autouse=True)
def _quick(aws: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(aws.directory), prepend=":")
    monkeypatch.setattr(outbox, "FIRST_PAUSE_SECONDS", 0.02)
    takes(aws, tmp_path)


@pytest.fixture
def reporter() -> Iterator[Reporter]:
    made = Reporter(settings(), instance_id=lambda: INSTANCE_ID, log=Log(stream=io.StringIO()))
    yield made
    made.close(grace_seconds=0.1)


def takes(aws: Any, folder: Path, first: str = ":") -> None:
    """Let PutEvents take all entries, or do something else `first`."""
    aws.behaves(keep_input(folder, f'input="{folder}/input.$n"; {first}; {TAKES_ALL}'))


def sent(folder: Path, call: int) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((folder / f"input.{call}").read_text())
    return entries


def test_each_report_says_who_of_which_fleet_and_when_beside_its_own_fields(
    reporter: Reporter, aws: Any, tmp_path: Path, kit: Any
) -> None:
    boot = {"booted_at": "2026-11-23T13:38:06.180Z", "phases": [], "path": {"kernel": 9.4}}
    reporter.boot_ended(boot)
    reporter.boot_failed(phase="image", reason="it stalled", boot=boot)
    reporter.engine_failed(reason="it ended", restarts=2, final=True)
    reporter.drained({"outcome": "drained"})
    reporter.start()
    reporter.close(grace_seconds=5)
    assert aws.calls == ["--region eu-west-1 events put-events --entries file:///dev/stdin --output json"]
    entries = sent(tmp_path, 1)
    assert {(one["Source"], one["EventBusName"]) for one in entries} == {("spot-failover.node", "default")}
    details = [json.loads(one["Detail"]) for one in entries]
    for detail in details:
        assert (detail.pop("instance-id"), detail.pop("fleet")) == (INSTANCE_ID, "chat")
        assert parse_utc(detail.pop("at"))
    assert dict(zip([one["DetailType"] for one in entries], details, strict=True)) == {
        "Spot Failover Node Ready": {"boot": boot},
        "Spot Failover Node Boot Failed": {"phase": "image", "reason": "it stalled", "boot": boot},
        "Spot Failover Node Engine Failed": {"reason": "it ended", "restarts": 2, "final": True},
        "Spot Failover Node Drained": {"outcome": {"outcome": "drained"}},
    }


def test_a_report_that_fails_keeps_its_time_and_its_place(
    reporter: Reporter, aws: Any, tmp_path: Path, kit: Any
) -> None:
    takes(aws, tmp_path, '[ "$n" -ge 3 ] || { echo "no route" >&2; exit 255; }')
    reporter.start()
    reporter.drained({"outcome": "drained"})
    kit.eventually(lambda: len(aws.calls) == 3)
    reporter.close(grace_seconds=5)
    assert sent(tmp_path, 1) == sent(tmp_path, 2) == sent(tmp_path, 3)
    assert len(aws.calls) == 3


def test_more_reports_than_a_call_takes_go_in_several(
    reporter: Reporter, aws: Any, tmp_path: Path, kit: Any
) -> None:
    for number in range(23):
        reporter.engine_failed(reason="it ended", restarts=number, final=False)
    reporter.start()
    kit.eventually(lambda: len(aws.calls) == 3)
    reporter.close(grace_seconds=5)
    told = [json.loads(one["Detail"])["restarts"] for call in (1, 2, 3) for one in sent(tmp_path, call)]
    assert told == list(range(23))


def test_a_long_reason_is_cut_where_the_control_plane_would_cut_it(
    reporter: Reporter, aws: Any, tmp_path: Path
) -> None:
    reporter.engine_failed(reason="x" * 10_000, restarts=0, final=False)
    reporter.start()
    reporter.close(grace_seconds=5)
    (entry,) = sent(tmp_path, 1)
    assert len(json.loads(entry["Detail"])["reason"]) == LONGEST_REASON == node_events.LONGEST_REASON


def test_without_a_bus_nothing_is_sent(aws: Any) -> None:
    reporter = Reporter(
        settings(EVENT_BUS=""), instance_id=lambda: INSTANCE_ID, log=Log(stream=io.StringIO())
    )
    reporter.start()
    reporter.drained({})
    reporter.close(grace_seconds=1)
    assert aws.calls == []


TAKEN, REFUSED = {"EventId": "1"}, {"ErrorCode": "ThrottlingException", "ErrorMessage": "later"}


@pytest.mark.parametrize(
    ("results", "count"), [([TAKEN] * 3, 3), ([TAKEN, REFUSED, TAKEN], 1), ([TAKEN, TAKEN, REFUSED], 2)]
)
def test_what_follows_a_refused_entry_is_sent_again_with_it(results: list[Any], count: int) -> None:
    assert accepted(json.dumps({"FailedEntryCount": 3 - count, "Entries": results}), 3) == count


@pytest.mark.parametrize("answer", ['{"Entries": [{"ErrorCode": "x"}]}', "", "[]", "{}", '{"Entries": 3}'])
def test_an_answer_that_takes_nothing_is_an_error(answer: str) -> None:
    with pytest.raises(AwsCliError):
        accepted(answer, 1)
