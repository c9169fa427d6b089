"""Boots and drains one node again and again, and looks each time for what it left.

The drains are asked for by a notice in the metadata, by a command and by SIGTERM, in turn. Exits 0 if nothing
was ever left, 1 if something was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, assert_never

from rich.console import Console
from rich.table import Table

from bench.node.leftovers import SHARED_FOLDERS, Leftover, find_leftovers, look_before, still_there
from bench.node.numbers import Spread, spread
from bench.node.solo_node import AGENT_BUCKET, AGENT_KEY, SoloNode, Surroundings, agent_archive
from local_aws.engines.commands import MODEL_DIRECTORY, PREPARED_MODEL, engine_command, engine_environment
from local_aws.engines.tiny_model import ensure_tiny_model
from local_aws.nodes.machine import EngineProcess
from local_aws.world import EngineKind

DEFAULT_OUT = Path("out/bench/cycles.json")
ENGINE_PORT = 8000
# Of the emulated engine, whose own start is not what is tried here.
START_SECONDS = 0.2
NOTICE_SECONDS = 60
# A local node has no load balancer whose health checks a drain would have to wait for.
SETTLE_SECONDS = "0.5"


class DrainBy(StrEnum):
    """Who asks for the drain."""

    NOTICE = "notice"
    COMMAND = "command"
    SIGTERM = "sigterm"


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """One life of the node. Seconds are of the boot, from the machine's start, and of the drain."""

    number: int
    drain_by: DrainBy
    boot_seconds: float
    drain_seconds: float
    leftovers: Sequence[Leftover]


def play(
    node: SoloNode,
    *,
    cycles: int,
    shared_folders: Sequence[Path] = SHARED_FOLDERS,
    between: Callable[[int], None] = lambda _: None,
) -> Iterable[Cycle]:
    """Yield the cycles as they end. `between` is called after each end and before the look for leftovers."""
    for number, drain_by in zip(range(1, cycles + 1), itertools.cycle(DrainBy), strict=False):
        before = look_before(shared_folders)
        began = time.monotonic()
        node.boot()
        node.wait_in_service()
        booted = time.monotonic()
        _drain(node, drain_by)
        node.stop_unit()
        ended = time.monotonic()
        between(number)
        left = find_leftovers(
            node.folders.home,
            mark=node.instance_id,
            address=node.address,
            before=before,
            foreign_ports=[node.metadata_port],
            shared_folders=shared_folders,
        )
        yield Cycle(
            number=number,
            drain_by=drain_by,
            boot_seconds=round(booted - began, 3),
            drain_seconds=round(ended - booted, 3),
            leftovers=left,
        )


def _drain(node: SoloNode, drain_by: DrainBy) -> None:
    match drain_by:
        case DrainBy.NOTICE:
            node.notice(seconds=NOTICE_SECONDS)
            node.wait_until("drained", lambda status: status.get("state") == "drained")
        case DrainBy.COMMAND:
            node.drain_by_command(seconds=NOTICE_SECONDS)
        case DrainBy.SIGTERM:
            # Stopping the unit is the signal; it comes in any case.
            pass
        case _:
            assert_never(drain_by)


def make_node(home: Path, engine: EngineKind) -> SoloNode:
    """Return a node whose AWS is a folder beside its own."""
    cloud = home.parent / "aws"
    (cloud / AGENT_BUCKET).mkdir(parents=True, exist_ok=True)
    (cloud / AGENT_BUCKET / AGENT_KEY).write_bytes(agent_archive())
    tool = [sys.executable, "-I", "-S", str(Path(__file__).with_name("aws_tool.py")), str(cloud)]
    if engine == "real":
        ensure_tiny_model()
    settings = {"SPOT_FAILOVER_SETTLE_SECONDS": SETTLE_SECONDS}
    return SoloNode(
        home,
        engine=lambda address: _engine(engine, address),
        around=Surroundings(tools={"aws": shlex.join(tool)}, settings=settings),
    )


def _engine(kind: EngineKind, address: str) -> EngineProcess:
    command = engine_command(
        kind, host=address, port=ENGINE_PORT, model=PREPARED_MODEL, start_seconds=START_SECONDS
    )
    return EngineProcess(command, engine_environment(kind), str(MODEL_DIRECTORY))


def summary(engine: EngineKind, cycles: Sequence[Cycle]) -> dict[str, Any]:
    """Return the run as JSON values."""
    left = [f"cycle {cycle.number}: {leftover}" for cycle in cycles for leftover in cycle.leftovers]
    return {
        "engine": engine,
        "cycles": len(cycles),
        "drains": {by.value: sum(cycle.drain_by is by for cycle in cycles) for by in DrainBy},
        "leftovers": left,
        "boot_seconds": asdict(spread([cycle.boot_seconds for cycle in cycles])),
        "drain_seconds": asdict(spread([cycle.drain_seconds for cycle in cycles])),
    }


def show(console: Console, made: dict[str, Any]) -> None:
    """Print the run's table and its verdict."""
    console.print(f"{made['cycles']} boot-drain cycles, {made['engine']} engine", style="italic")
    table = Table()
    for name in ("seconds", "min", "median", "max"):
        table.add_column(name, justify="left" if name == "seconds" else "right")
    for name in ("boot", "drain"):
        seconds = Spread(**made[f"{name}_seconds"])
        table.add_row(name, *(f"{each:.1f}" for each in (seconds.least, seconds.median, seconds.most)))
    console.print(table)
    drains = ", ".join(f"{count} by {by}" for by, count in made["drains"].items())
    console.print(f"Drains: {drains}.", highlight=False)
    for line in made["leftovers"]:
        console.print(f"LEFT after {line}", style="bold red", markup=False, highlight=False)
    if not made["leftovers"]:
        console.print("No process, port, socket, lock, shared memory or file was left.", style="bold green")


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the cycles that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.node.cycles", description=__doc__)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--engine", choices=("emulated", "real"), default="emulated")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    options = parser.parse_args(arguments)
    if options.cycles < 1:
        parser.error(f"--cycles is 1 or more, not {options.cycles}")
    console = Console(width=None if sys.stdout.isatty() else 130)
    folder = Path(tempfile.mkdtemp(prefix="cycles-", dir=_made(options.out.parent)))
    played: list[Cycle] = []
    try:
        with make_node(folder.resolve() / "node", options.engine) as node:
            for cycle in play(node, cycles=options.cycles):
                played.append(cycle)
                left = ", ".join(map(str, cycle.leftovers)) or "nothing left"
                console.print(
                    f"[{cycle.number:>3}/{options.cycles}] boot {cycle.boot_seconds:4.1f} s, drain by"
                    f" {cycle.drain_by.value:<8}{cycle.drain_seconds:5.1f} s: {left}",
                    markup=False, highlight=False,
                )  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    lasting = [
        replace(cycle, leftovers=[each for each in cycle.leftovers if still_there(each)]) for cycle in played
    ]
    made = summary(options.engine, lasting)
    options.out.write_text(json.dumps(made, indent=2) + "\n")
    show(console, made)
    return 1 if made["leftovers"] else 0


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
