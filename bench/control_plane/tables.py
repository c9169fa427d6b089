"""The storm bench's figures as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.control_plane import outcome
from bench.control_plane.outcome import Action
from bench.control_plane.storms import Storm
from bench.control_plane.verdicts import Verdict


def show_storms(console: Console, *, contenders: Sequence[Storm], ours: Sequence[Storm]) -> None:
    """Print the storm of all contenders, their calls, and our storms by size."""
    for table in (_storm(contenders), *map(_calls, contenders), _sizes(ours)):
        console.print(table)


def show_promises(console: Console, *, single: Mapping[str, Any], verdicts: Sequence[Verdict]) -> None:
    """Print a lone interruption, and what is kept."""
    console.print(_single(single))
    console.print(_verdicts(verdicts))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


def _storm(storms: Sequence[Storm]) -> Table:
    table = _table("The storm", "", *(each.contender.name for each in storms))

    def row(name: str, *figures: str) -> None:
        table.add_row(name, *figures)

    row("nodes, length of their notice", *(f"{s.nodes}, {s.notices.seconds:g} s" for s in storms))
    row("all notices within", *(f"{s.notices.last - s.notices.first:.1f} s" for s in storms))
    for action in Action:
        row(f"{action} before the deadline", *(f"{s.share(action):.1%}" for s in storms))
    for action in Action:
        row(f"notice to {action}, p50 / p95 / last", *(_seconds(s, action) for s in storms))
    row("first notice to last action", *(f"{s.last_action_seconds:.1f} s" for s in storms))
    row("calls per interruption", *(f"{s.calls_per_interruption:.2f}" for s in storms))
    row("calls refused for their rate", *(str(outcome.total(s.calls).throttled) for s in storms))
    row("endpoint: processors used", *(f"{s.load.endpoint_processors:.2f}" for s in storms))
    row("endpoint: time it was the bottleneck", *(f"{s.load.endpoint_busy:.0%}" for s in storms))
    row("machine: processors used", *(f"{s.load.machine_processors:.2f}" for s in storms))
    return table


def _seconds(storm: Storm, action: Action) -> str:
    figures = outcome.seconds_of(storm.found, storm.notices, action)
    return " / ".join(f"{outcome.percentile(figures, percent):.1f}" for percent in (50, 95, 100))


def _calls(storm: Storm) -> Table:
    table = _table(
        f"Calls, {storm.contender.name}, {storm.nodes} nodes",
        "",
        "calls",
        "per interruption",
        "refused",
        "failed",
    )
    for counts in (storm.calls, storm.record_calls):
        for action, count in counts.items():
            each = f"{count.made / storm.nodes:.3f}"
            table.add_row(action, str(count.made), each, str(count.throttled), str(count.failed))
        table.add_section()
    return table


def _sizes(storms: Sequence[Storm]) -> Table:
    table = _table(
        "Spot Failover by size",
        "nodes",
        "calls / interruption",
        "and to record it",
        "last action s",
        "s / interruption",
        "refused",
    )
    for storm in storms:
        table.add_row(
            str(storm.nodes),
            f"{storm.calls_per_interruption:.3f}",
            f"{outcome.total(storm.record_calls).made / storm.nodes:.3f}",
            f"{storm.last_action_seconds:.2f}",
            f"{storm.last_action_seconds / storm.nodes:.4f}",
            str(outcome.total(storm.calls).throttled),
        )
    return table


def _single(single: Mapping[str, Any]) -> Table:
    table = _table("One interruption, warm: ms from the notice", "", "min", "median", "max")
    for name, told in single.items():
        rows = {**told["seconds"], "first": told["first_seconds"], "last": told["last_seconds"]}
        for action, figures in rows.items():
            shown = (f"{figures[key] * 1000:.0f}" for key in ("least", "median", "most"))
            table.add_row(f"{name}: {action}", *shown)
        table.add_section()
    return table


def _verdicts(verdicts: Sequence[Verdict]) -> Table:
    table = _table("Promises", "", "kept", "figures")
    for each in verdicts:
        table.add_row(each.promise, "yes" if each.kept else "NO", each.figures)
    return table
