"""The log on its way to CloudWatch Logs: few calls, urgent lines soon, within PutLogEvents' limits."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import log_shipper, outbox
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.log_shipper import (
    LONGEST_SPAN_MS,
    MOST_BATCH_BYTES,
    MOST_LINE_BYTES,
    LogShipper,
    first_batch,
    log_event,
)
from tests.unit.node.reporting_node import INSTANCE_ID, keep_input, settings


@pytest.fixture(autouse=True)
def _quick(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(aws.directory), prepend=":")
    monkeypatch.setattr(outbox, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(log_shipper, "SOON_SECONDS", 0.05)


@pytest.fixture
def log() -> Log:
    return Log(stream=io.StringIO(), fleet="chat")


@pytest.fixture
def shipper(log: Log) -> Iterator[LogShipper]:
    made = LogShipper(settings(), instance_id=lambda: INSTANCE_ID, log=log)
    yield made
    made.close(grace_seconds=0.1)


def shipped(folder: Path, call: int) -> list[dict[str, Any]]:
    return [json.loads(one["message"]) for one in json.loads((folder / f"input.{call}").read_text())]


def test_quiet_lines_wait_and_go_with_an_urgent_one_into_the_nodes_own_stream(
    log: Log, shipper: LogShipper, aws: Any, tmp_path: Path, kit: Any
) -> None:
    aws.behaves(keep_input(tmp_path))
    shipper.start()
    log.info("agent_started", engine="process")
    time.sleep(0.2)
    assert aws.calls == []
    log.info("ready", start_seconds=3.2)
    kit.eventually(lambda: (tmp_path / "input.2").exists() and shipped(tmp_path, 2))
    stream = f"--log-group-name /spot-failover/fleet/chat --log-stream-name {INSTANCE_ID}"
    assert aws.calls == [
        f"--region eu-west-1 logs create-log-stream {stream}",
        f"--region eu-west-1 logs put-log-events {stream} --log-events file:///dev/stdin",
    ]
    assert [line["event"] for line in shipped(tmp_path, 2)] == ["agent_started", "ready"]


def test_every_warning_is_urgent(log: Log, shipper: LogShipper, aws: Any, kit: Any) -> None:
    shipper.start()
    log.warning("imds_unanswered")
    kit.eventually(lambda: len(aws.calls) == 2)


def test_the_stream_of_an_agent_before_is_used_again(
    log: Log, shipper: LogShipper, aws: Any, tmp_path: Path, kit: Any
) -> None:
    exists = '[ "$n" = 1 ] && { echo "(ResourceAlreadyExistsException): it is there" >&2; exit 254; }; exit 0'
    aws.behaves(keep_input(tmp_path, exists))
    shipper.start()
    log.info("ready")
    log.info("ready")
    kit.eventually(lambda: len(aws.calls) == 2)
    log.info("ready")
    kit.eventually(lambda: len(aws.calls) == 3)
    assert ["put-log-events" in call for call in aws.calls] == [False, True, True]


def test_lines_survive_refusals_and_none_is_told_twice(
    log: Log, shipper: LogShipper, aws: Any, tmp_path: Path, kit: Any
) -> None:
    aws.behaves(keep_input(tmp_path, '[ "$n" -ge 4 ] || { echo AccessDenied >&2; exit 254; }'))
    shipper.start()
    log.info("ready")
    log.error("engine_failed")
    kit.eventually(lambda: len(aws.calls) >= 5)
    shipper.close(grace_seconds=5)
    arrived = [
        line["event"]
        for number, call in enumerate(aws.calls, start=1)
        if number >= 4 and "put-log-events" in call
        for line in shipped(tmp_path, number)
    ]
    assert arrived == ["ready", "engine_failed", "log_not_sent"]


def test_nothing_is_sent_before_the_node_knows_its_name(log: Log, aws: Any, kit: Any) -> None:
    known: list[str] = []
    shipper = LogShipper(settings(), instance_id=lambda: known[0] if known else None, log=log)
    shipper.start()
    log.info("ready")
    time.sleep(0.2)
    assert aws.calls == []
    known.append(INSTANCE_ID)
    kit.eventually(lambda: len(aws.calls) == 2)


def test_the_last_lines_are_sent_at_the_end(log: Log, shipper: LogShipper, aws: Any, tmp_path: Path) -> None:
    aws.behaves(keep_input(tmp_path))
    shipper.start()
    log.info("container_stopped")
    shipper.close(grace_seconds=5)
    assert [line["event"] for line in shipped(tmp_path, 2)] == ["container_stopped"]


def test_without_a_log_group_no_call_is_made(log: Log, aws: Any) -> None:
    shipper = LogShipper(settings(LOG_GROUP=""), instance_id=lambda: INSTANCE_ID, log=log)
    shipper.start()
    log.error("engine_failed")
    shipper.close(grace_seconds=1)
    assert aws.calls == []


def event(timestamp: int, size: int = 10) -> dict[str, object]:
    return {"timestamp": timestamp, "message": "x" * size}


def test_a_batch_ends_before_it_is_too_large_or_spans_a_day() -> None:
    large = MOST_BATCH_BYTES // 2 - 26
    assert len(first_batch([event(1, large), event(2, large), event(3)])) == 2
    assert len(first_batch([event(0), event(LONGEST_SPAN_MS - 1), event(LONGEST_SPAN_MS)])) == 2
    assert len(first_batch([event(LONGEST_SPAN_MS), event(0)])) == 1
    assert len(first_batch([event(1)] * 5000)) == 5000


def test_a_line_keeps_its_own_time_and_its_length_within_bounds() -> None:
    made = log_event({"at": "2026-11-23T13:38:00.250Z", "event": "x", "text": "é" * MOST_LINE_BYTES})
    assert made["timestamp"] == 1795441080250
    assert len(str(made["message"]).encode()) == MOST_LINE_BYTES
