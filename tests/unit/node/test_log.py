"""The agent's log: JSON lines, sinks that cannot harm it, and lines of metrics."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent.log import Log


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_sink_gets_each_entry_as_it_is_written() -> None:
    stream, seen = io.StringIO(), list[Mapping[str, object]]()
    log = Log(stream=stream, fleet="chat")
    log.info("before")
    log.add_sink(seen.append)
    log.bind(instance_id="i-1")
    log.warning("after", tries=2)
    assert [dict(entry) for entry in seen] == lines(stream)[1:]
    assert seen[0].items() >= {"level": "WARNING", "event": "after", "instance_id": "i-1", "tries": 2}.items()


def test_a_sink_that_fails_or_logs_itself_loses_no_line_and_no_other_sink() -> None:
    stream, seen = io.StringIO(), list[object]()
    log = Log(stream=stream)

    def broken(entry: Mapping[str, object]) -> None:
        if entry["event"] == "first":
            log.info("second")
        raise RuntimeError("broken sink")

    log.add_sink(broken)
    log.add_sink(lambda entry: seen.append(entry["event"]))
    log.info("first")
    assert [line["event"] for line in lines(stream)] == ["first", "second"]
    assert sorted(map(str, seen)) == ["first", "second"]


def test_a_sink_gets_also_what_the_journal_cannot_take() -> None:
    stream, seen = io.StringIO(), list[object]()
    log = Log(stream=stream)
    log.add_sink(lambda entry: seen.append(entry["event"]))
    stream.close()
    log.error("disk_full")
    assert seen == ["disk_full"]


@pytest.mark.parametrize(("fields", "fleet"), [({"fleet": "chat"}, "chat"), ({}, "none")])
def test_metrics_are_one_line_in_the_projects_namespace_by_fleet(fields: Any, fleet: str) -> None:
    stream = io.StringIO()
    Log(stream=stream, **fields).metrics({"boot.seconds": ("Seconds", 41.5), "engine.restarts": ("Count", 1)})
    (line,) = lines(stream)
    (definition,) = line["_aws"]["CloudWatchMetrics"]
    assert definition == {
        "Namespace": "SpotFailover",
        "Dimensions": [["fleet"]],
        "Metrics": [
            {"Name": "boot.seconds", "Unit": "Seconds"},
            {"Name": "engine.restarts", "Unit": "Count"},
        ],
    }
    assert (line["fleet"], line["boot.seconds"], line["engine.restarts"]) == (fleet, 41.5, 1)
    assert line["_aws"]["Timestamp"] > 1_700_000_000_000


def test_no_metrics_make_no_line() -> None:
    stream = io.StringIO()
    Log(stream=stream).metrics({})
    assert stream.getvalue() == ""
