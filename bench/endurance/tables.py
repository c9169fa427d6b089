"""An endurance run's figures as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from local_aws.demo.checks import CheckResult

STYLES = {CheckResult.PASSED: "green", CheckResult.FAILED: "bold red", CheckResult.NOT_JUDGED: "yellow"}


def show(console: Console, made: dict[str, Any]) -> None:
    """Print the seconds, what the processes hold, and the checks."""
    console.print()
    console.print(_seconds(made))
    console.print(_growth(made["growth"]))
    table = Table(title=f"{made['engine']['name']} {made['engine']['version']}", title_justify="left")
    for name in ("check", "", "says"):
        table.add_column(name)
    for check in made["checks"]:
        result = CheckResult(check["result"])
        table.add_row(check["name"], result.value.replace("_", " "), check["says"], style=STYLES[result])
    console.print(table)


def _seconds(made: dict[str, Any]) -> Table:
    taken, requests = made["interruptions"], made["requests"]
    title = f"{taken['count']} interruptions, {requests['total']:,} requests: {requests['failed']} lost"
    table = Table(title=title, title_justify="left")
    table.add_column("seconds")
    for name in ("p50", "p90", "p99", "max"):
        table.add_column(name, justify="right")
    rows = {
        "recovery: notice to in service": taken["recovery_seconds"],
        "capacity gap": taken["capacity_gap_seconds"],
        "drain": taken["drain_seconds"],
        "requests in calm times": requests["latency_seconds"]["calm"],
        "requests during incidents": requests["latency_seconds"]["during_incidents"],
    }
    for name, figures in rows.items():
        told = (figures[each] for each in ("p50", "p90", "p99", "max"))
        table.add_row(name, *("-" if each is None else f"{each:.2f}" for each in told))
    return table


def _growth(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Medians of the first and the last quarter", title_justify="left")
    for name in ("process", "what", "first", "last", "may rise by"):
        table.add_column(name, justify="left" if name in ("process", "what") else "right")
    for row in rows:
        told = (row["first_quarter"], row["last_quarter"], row["allowed_rise"])
        cells = ("-" if each is None else f"{each:.1f}" for each in told)
        table.add_row(row["who"], row["what"], *cells, style="bold red" if row["grows"] else "")
    return table
