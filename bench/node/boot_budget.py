"""The boot budget of a g6e-class node with an 8B model: bytes over bandwidth, by phase, against the notice.

`python -m bench.node.boot_budget [--json]`. Nothing is measured here: the figures and their sources stand in
`figures.py`, and what a node really took is in its `/status`. Of phases that run side by side the longest
counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.node import figures
from bench.node.figures import BUDGET_SECONDS, GB, Basis, Figure


class Choice(StrEnum):
    """Where the container and the weights come from, and which engine measurement is taken."""

    PLAIN_HUB = "plain image, weights from the hub, nothing cached"
    LAZY_STREAM = "baked image, default initialization, weights streamed from S3"
    RATE_STREAM = "baked image, 300 MiB/s, weights streamed from S3"
    RATE_STORE = "baked image, 300 MiB/s, weights downloaded to the instance store"
    RESTORED_STREAM = "baked image, fast snapshot restore, weights streamed from S3"
    RECENT_STREAM = "baked image, 300 MiB/s, weights streamed, engine start as measured in 2026"


@dataclass(frozen=True)
class Row:
    """One phase or part of one, of one choice."""

    choice: Choice
    phase: str
    """As in a node's `/status`; `launch` lies before the node's own clock."""
    part: str
    seconds: float
    worst_seconds: float
    counted: bool
    """False: something that runs at the same time takes longer."""
    source: str
    basis: Basis
    bytes: float | None = None
    bandwidth: float | None = None
    """Bytes a second."""


@dataclass(frozen=True)
class _Leg:
    """A row in the making. Legs of one stage run side by side; stages follow one another."""

    stage: int
    phase: str
    part: str
    seconds: Figure | None = None
    size: Figure | None = None
    rate: Figure | None = None
    waits_for_all: Figure | None = None
    """At worst the bytes come last of this many."""


def transfer(size: Figure, rate: Figure) -> Figure:
    """Return the seconds that bytes take, at worst the most bytes at the lowest rate."""
    basis = Basis.ESTIMATED if Basis.ESTIMATED in (size.basis, rate.basis) else rate.basis
    return Figure(
        size.value / rate.value, f"{size.source}; {rate.source}", basis, worst=size.at_worst / rate.at_worst
    )


def table() -> list[Row]:
    """Return all rows, choice by choice, in the order of a boot."""
    return [row for choice in Choice for row in rows(choice)]


def rows(choice: Choice) -> list[Row]:
    """Return the rows of one choice."""
    found: list[Row] = []
    for _, stage in groupby(_legs(choice), key=lambda leg: leg.stage):
        side_by_side = [_row(choice, leg) for leg in stage]
        longest = max(range(len(side_by_side)), key=lambda index: side_by_side[index].seconds)
        found += [replace(row, counted=index == longest) for index, row in enumerate(side_by_side)]
    return found


def total(choice: Choice) -> float:
    """Return the seconds from the request for the node until the node is in service."""
    return sum(row.seconds for row in rows(choice) if row.counted)


def worst_total(choice: Choice) -> float:
    """Return the same with each figure at its other end, the longest of each stage again."""
    stages = groupby(_legs(choice), key=lambda leg: leg.stage)
    return sum(max(_row(choice, leg).worst_seconds for leg in stage) for _, stage in stages)


def _row(choice: Choice, leg: _Leg) -> Row:
    if leg.seconds is not None:
        seconds = leg.seconds
    else:
        assert leg.size is not None
        assert leg.rate is not None
        seconds = transfer(leg.size, leg.rate)
    worst = seconds.at_worst
    if leg.waits_for_all is not None and leg.rate is not None:
        worst = max(worst, transfer(leg.waits_for_all, leg.rate).at_worst)
    return Row(
        choice=choice,
        phase=leg.phase,
        part=leg.part,
        seconds=seconds.value,
        worst_seconds=worst,
        counted=True,
        source=seconds.source,
        basis=seconds.basis,
        bytes=leg.size.value if leg.size else None,
        bandwidth=leg.rate.value if leg.rate else None,
    )


def _legs(choice: Choice) -> list[_Leg]:
    plain = choice is Choice.PLAIN_HUB
    return [
        _Leg(0, "launch", "request to machine start", figures.LAUNCH),
        _Leg(1, "kernel", "machine start to user data", figures.KERNEL),
        _Leg(2, "user_data", "agent", figures.USER_DATA_PLAIN if plain else figures.USER_DATA_BAKED),
        *_fetches(choice),
        *_engine(choice),
        _Leg(9, "warm_up", "first completion", figures.WARM_UP),
        _Leg(10, "in_service", "load balancer's checks", figures.IN_SERVICE),
    ]


def _fetches(choice: Choice) -> list[_Leg]:
    if choice is Choice.PLAIN_HUB:
        return [
            _Leg(3, "image", "pull", size=figures.CONTAINER_COMPRESSED, rate=figures.REGISTRY),
        ]
    cache = _Leg(3, "compile_cache", "restore", size=figures.COMPILE_CACHE, rate=figures.S3_STREAM)
    if choice is not Choice.RATE_STORE:
        return [cache]
    slower = min(figures.S3_STREAM, figures.INSTANCE_STORE, key=lambda rate: rate.value)
    return [cache, _Leg(3, "weights", "download", size=figures.WEIGHTS, rate=slower)]


def _engine(choice: Choice) -> list[_Leg]:
    if choice is Choice.PLAIN_HUB:
        return [
            _Leg(4, "engine", "imports", figures.IMPORTS_COLD),
            _Leg(5, "engine", "weights from the hub", size=figures.WEIGHTS, rate=figures.HUB),
            _Leg(6, "engine", "weights to the GPU", figures.LOAD_FROM_DISK),
            _Leg(7, "engine", "compilation", figures.COMPILE_COLD),
            _Leg(8, "engine", "graph capture", figures.CAPTURE_ALL),
        ]
    read = _reads_container(choice)
    weights = _Leg(6, "engine", "weights from S3 to the GPU", size=figures.WEIGHTS, rate=figures.S3_STREAM)
    if choice is Choice.RATE_STORE:
        weights = _Leg(6, "engine", "weights to the GPU", figures.LOAD_FROM_DISK)
    if choice is Choice.RECENT_STREAM:
        return [read, _Leg(5, "engine", "whole start", figures.RECENT_START), weights]
    return [
        read,
        _Leg(5, "engine", "imports", figures.IMPORTS),
        weights,
        _Leg(7, "engine", "compiled graphs from the cache", figures.COMPILE_WARM),
        _Leg(8, "engine", "graph capture", figures.CAPTURE_FEW),
    ]


def _reads_container(choice: Choice) -> _Leg:
    part = "container's libraries from the disk"
    if choice is Choice.LAZY_STREAM:
        return _Leg(4, "engine", part, size=figures.CONTAINER_READ, rate=figures.EBS_LAZY)
    if choice is Choice.RESTORED_STREAM:
        return _Leg(4, "engine", part, size=figures.CONTAINER_READ, rate=figures.EBS_READY)
    # EBS does not say in which order it fills a volume at a rate.
    return _Leg(
        4,
        "engine",
        part,
        size=figures.CONTAINER_READ,
        rate=figures.EBS_INITIALIZED_AT_300,
        waits_for_all=figures.SNAPSHOT,
    )


def render(console: Console) -> None:
    """Print each choice's rows and sum, and then all sums against the budget."""
    for choice in Choice:
        console.print(_rows_table(choice))
        console.print()
    console.print(_sums_table())
    console.print("Parts in brackets run beside a longer one and do not count.")
    console.print('"At worst" takes every figure at its other end at once.')


def _rows_table(choice: Choice) -> Table:
    shown = Table(title=choice.value, title_justify="left")
    for heading in ("phase", "part"):
        shown.add_column(heading)
    for heading in ("GB", "MB/s", "seconds", "at worst"):
        shown.add_column(heading, justify="right")
    shown.add_column("source", overflow="fold")
    for row in rows(choice):
        seconds = f"{row.seconds:.1f}" if row.counted else f"({row.seconds:.1f})"
        size = "" if row.bytes is None else f"{row.bytes / GB:.1f}"
        rate = "" if row.bandwidth is None else f"{row.bandwidth / 1e6:.0f}"
        source = f"{row.basis.value}: {row.source}"
        shown.add_row(row.phase, row.part, size, rate, seconds, f"{row.worst_seconds:.1f}", source)
    shown.add_section()
    shown.add_row("sum", "", "", "", f"{total(choice):.0f}", f"{worst_total(choice):.0f}", "")
    return shown


def _sums_table() -> Table:
    shown = Table(
        title=f"Boot budget, g6e.xlarge, 8B: sums against {BUDGET_SECONDS:.0f} s", title_justify="left"
    )
    shown.add_column("choice")
    for heading in ("seconds", "at worst", "left of the notice"):
        shown.add_column(heading, justify="right")
    for choice in Choice:
        left = BUDGET_SECONDS - total(choice)
        shown.add_row(
            choice.value,
            f"{total(choice):.0f}",
            f"{worst_total(choice):.0f}",
            Text(f"{left:+.0f}", style="green" if left >= 0 else "red"),
        )
    return shown


def as_json() -> dict[str, object]:
    """Return all rows and sums as the bench's results hold them."""
    return {
        "budget_seconds": BUDGET_SECONDS,
        "rows": [asdict(row) for row in table()],
        "sums": {
            choice.value: {"seconds": total(choice), "worst_seconds": worst_total(choice)}
            for choice in Choice
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the budget."""
    parser = argparse.ArgumentParser(prog="python -m bench.node.boot_budget", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print rows and sums as JSON")
    if parser.parse_args(arguments).json:
        print(json.dumps(as_json(), indent=2))
    else:
        render(Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
