"""What the operator reads while the demo runs and at its end."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from local_aws.demo import progress, summary
from local_aws.demo.progress import LiveProgress, NodeLine, PlainProgress, View, render
from local_aws.demo.traffic import TrafficCounts

NODES = [NodeLine("i-1", "127.9.9.2", "draining", 2, 103.4), NodeLine("i-2", "127.9.9.3", "serving", 1, None)]


def shown(renderable: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_live_view_shows_nodes_requests_and_seconds_left() -> None:
    view = View("the title", phase="interruption 1 of 2", nodes=NODES, requests=TrafficCounts(3, 40, 1, 0))
    view.steps.append("deregistered")
    text = shown(render(view))
    for part in (
        "the title",
        "interruption 1 of 2",
        "i-1",
        "draining",
        "103",
        "3 in flight",
        "0 lost",
        "deregistered",
    ):
        assert part in text


def test_live_view_says_loudly_that_a_request_was_lost() -> None:
    assert "2 LOST" in shown(render(View("t", requests=TrafficCounts(3, 40, 1, 2))))


def test_live_view_comes_up_before_there_is_anything_to_show() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with LiveProgress(console, "the title") as live:
        live.phase("starting")
        live.status([], None)
        live.status(NODES, TrafficCounts(1, 2, 0, 0))


def test_without_a_terminal_there_are_plain_lines(monkeypatch: Any) -> None:
    monkeypatch.setattr(progress, "PLAIN_STATUS_SECONDS", 0.0)
    out = io.StringIO()
    with PlainProgress(Console(file=out, width=60), "the title") as plain:
        plain.phase("interruption 1 of 2")
        plain.step("NOTICE: i-1 will be taken in 120 s [now]")
        plain.status(NODES, None)
        plain.status(NODES, TrafficCounts(3, 40, 1, 0))
    lines = out.getvalue().splitlines()
    assert lines[0].endswith("the title")
    assert lines[2].endswith("NOTICE: i-1 will be taken in 120 s [now]")
    assert lines[3].endswith(
        "requests: 3 in flight, 40 answered, 1 retried, 0 lost; nodes: i-1 draining (103 s left), i-2 serving"
    )
    assert "\x1b" not in out.getvalue()


def test_closing_table_names_an_emulated_engine_and_what_is_missing() -> None:
    fields = (
        *("deregistered_at", "drain_requested_at", "replacement_requested_at", "drain_started_at"),
        *("drained_at", "replacement_in_service_at", "in_flight_at_notice", "cut_requests"),
        *("replacement_instance_id", "engine_start_seconds", "capacity_gap_seconds", "boot"),
    )
    interruption = dict.fromkeys(fields)
    none = {"p50": None, "p99": None}
    report = {
        "passed": False,
        "verdict": "FAILED. every step happened: i-1 lacks drained_at.",
        "engine": {"name": "EMULATED engine, not vLLM", "version": "0"},
        "engine_bare_start_seconds": 3.0,
        "interruptions": [
            {
                **interruption,
                "instance_id": "i-1",
                "noticed_at": "2026-11-23T12:00:00.000Z",
                "deregistered_at": "2026-11-23T12:00:00.750Z",
            }
        ],
        "requests": {
            "total": 1,
            "succeeded": 0,
            "failed": 1,
            "retried": 0,
            "latency_seconds": {"all": none, "during_incidents": none},
        },
        "checks": [{"name": "no request lost", "result": "failed", "says": "1 of 1"}],
    }
    console = Console(file=io.StringIO(), width=140)
    summary.show(console, report)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in ("EMULATED engine, not vLLM", "missing", "0.8", "FAILED", "i-1 lacks drained_at"):
        assert part in text
