"""The node bench's figures as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from bench.node.numbers import Spread


def show(console: Console, made: dict[str, Any]) -> None:
    """Print starts, compile cache and transfers."""
    console.print(_starts(made))
    console.print(_compile_cache(made["compile_cache"]))
    console.print(_transfers(made["transfers"]))


def _spreads(title: str, rows: dict[str, dict[str, float]]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in ("min", "median", "max"):
        table.add_column(name, justify="right")
    for name, figures in rows.items():
        seconds = Spread(**figures)
        table.add_row(name, *(f"{each:.2f}" for each in (seconds.least, seconds.median, seconds.most)))
    return table


def _starts(made: dict[str, Any]) -> Table:
    told = made["starts"]
    table = _spreads(
        f"Start to the first completion, seconds ({made['engine']} engine, {told['runs']} pairs in turn)",
        {
            "bare engine": told["bare_seconds"],
            "node, from its machine's start": told["managed_seconds"],
            "its engine alone": told["managed_engine_seconds"],
            "node / bare, pair by pair": told["managed_over_bare"],
        },
    )
    table.add_section()
    for name, seconds in told["last_boot_seconds"].items():
        table.add_row(f"last boot: {name}", "", f"{seconds:.2f}", "")
    return table


def _compile_cache(told: dict[str, Any]) -> Table | str:
    if "skipped" in told:
        return f"Compile cache: skipped, {told['skipped']}."
    return _spreads(
        f"Compile cache of {told['megabytes']:.1f} MB, seconds ({told['runs']} pairs)",
        {
            "cold start: nothing compiled yet": told["cold_seconds"],
            "restore from S3": told["restore_seconds"],
            "warm start, after the restore": told["warm_seconds"],
            "(restore + warm) / cold": told["restore_and_warm_over_cold"],
        },
    )


def _transfers(told: dict[str, Any]) -> Table:
    table = Table(title="Transfers side by side, at stated bandwidths", title_justify="left")
    for name in ("", "MB", "MB/s", "bytes / bandwidth", "measured s"):
        table.add_column(name, justify="left" if not name else "right")
    for leg in told["legs"]:
        table.add_row(
            leg["phase"],
            f"{leg['megabytes']:.0f}",
            f"{leg['megabytes_per_second']:.0f}",
            f"{leg['least_seconds']:.1f}",
            f"{leg['seconds']:.1f}",
        )
    table.add_section()
    table.add_row("longest leg", "", "", "", f"{told['longest_leg_seconds']:.1f}")
    table.add_row("sum of legs", "", "", "", f"{told['sum_of_legs_seconds']:.1f}")
    table.add_row("the whole preparation", "", "", "", f"{told['preparation_seconds']:.1f}")
    return table
