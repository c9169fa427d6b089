"""The closing table: the report's figures for a human."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from local_aws.demo.boots import PHASE_NAMES, SIDE_BY_SIDE

_MARKS = {"passed": ("ok", "green"), "failed": ("FAILED", "bold red"), "not_judged": ("not judged", "yellow")}


def show(console: Console, report: dict[str, Any]) -> None:
    """Print interruptions, requests, checks and the verdict."""
    console.print()
    console.print(_interruptions(report))
    console.print(_requests(report))
    console.print(_checks(report))
    console.print(Text(report["verdict"], style="bold green" if report["passed"] else "bold red"))


def _interruptions(report: dict[str, Any]) -> Table:
    engine = report["engine"]
    table = Table(title=f"Interruptions ({engine['name']} {engine['version']})", title_justify="left")
    table.add_column("seconds after the notice")
    rows: dict[str, list[str]] = {}
    for each in report["interruptions"]:
        table.add_column(each["instance_id"], justify="right")
        for name, value in _figures(each).items():
            rows.setdefault(name, []).append(value)
    for name, values in rows.items():
        table.add_row(name, *values)
    table.add_section()
    for name in PHASE_NAMES:
        table.add_row(_phase_title(name), *(_phase_seconds(each, name) for each in report["interruptions"]))
    table.add_section()
    table.add_row("machine start to ready", *(_ready_seconds(each) for each in report["interruptions"]))
    table.add_row(
        "bare engine start", *[_number(report["engine_bare_start_seconds"])] * len(report["interruptions"])
    )
    return table


def _figures(each: dict[str, Any]) -> dict[str, str]:
    def after(name: str) -> str:
        if each[name] is None:
            return "missing"
        notice = datetime.fromisoformat(each["noticed_at"])
        return _number((datetime.fromisoformat(each[name]) - notice).total_seconds())

    return {
        "deregistered": after("deregistered_at"),
        "drain requested": after("drain_requested_at"),
        "replacement requested": after("replacement_requested_at"),
        "drain begins": after("drain_started_at"),
        "drained": after("drained_at"),
        "replacement in service": after("replacement_in_service_at"),
        "requests in flight / cut": f"{_whole(each['in_flight_at_notice'])} / {_whole(each['cut_requests'])}",
        "replacement": each["replacement_instance_id"] or "missing",
        "its engine's start": _number(each["engine_start_seconds"]),
        "capacity gap": _number(each["capacity_gap_seconds"]),
    }


def _phase_title(name: str) -> str:
    return f"boot: {name} (side by side)" if name in SIDE_BY_SIDE else f"boot: {name}"


def _phase_seconds(each: dict[str, Any], name: str) -> str:
    phases = {phase["name"]: phase["seconds"] for phase in (each["boot"] or {}).get("phases", ())}
    return _number(phases.get(name))


def _ready_seconds(each: dict[str, Any]) -> str:
    return _number((each["boot"] or {}).get("ready_seconds"))


def _requests(report: dict[str, Any]) -> Table:
    requests = report["requests"]
    table = Table(title="Requests (stock OpenAI SDK)", title_justify="left")
    for name in (
        "total",
        "answered whole",
        "lost",
        "retried by the SDK",
        "p50 s",
        "p99 s",
        "p99 s in incidents",
    ):
        table.add_column(name, justify="right")
    latency = requests["latency_seconds"]
    table.add_row(
        str(requests["total"]),
        str(requests["succeeded"]),
        Text(str(requests["failed"]), style="bold red" if requests["failed"] else ""),
        str(requests["retried"]),
        _number(latency["all"]["p50"]),
        _number(latency["all"]["p99"]),
        _number(latency["during_incidents"]["p99"]),
    )
    return table


def _checks(report: dict[str, Any]) -> Table:
    table = Table(title="Checks", title_justify="left")
    for name in ("promise", "kept", "figures"):
        table.add_column(name)
    for check in report["checks"]:
        words, style = _MARKS[check["result"]]
        table.add_row(check["name"], Text(words, style=style), check["says"])
    return table


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.1f}"


def _whole(value: int | None) -> str:
    return "missing" if value is None else str(value)
