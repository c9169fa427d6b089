"""`python -m bench.node`: a node's start against its engine's own, its caches, its transfers, its budget.

Everything is measured in one run, each figure beside its baseline. Writes out/bench/node.json, and with
--record docs/measured/node.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.node import boot_budget, compile_cache, starts, tables, transfers
from bench.node.solo_node import SoloNodeError
from local_aws.engines.commands import REPOSITORY, EngineStartError
from local_aws.engines.tiny_model import ensure_tiny_model
from local_aws.session import LocalAws, LocalAwsError
from local_aws.world import EngineKind

OUT = Path("out/bench")
RECORD = REPOSITORY / "docs/measured/node.json"
TOO_SLOW, NOT_MEASURED = 1, 2
LIMIT_OVER_BARE = 1.10
"""A node may take so much longer to its first completion than its engine alone, median of the pairs."""
MEASURING_ERRORS = (compile_cache.CacheError, transfers.TransferError, SoloNodeError)
PLAIN_WIDTH = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; return 0, 1 for a node too slow, 2 where nothing could be measured."""
    options = _parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    try:
        made = measure(options.engine, runs=options.runs, console=console)
    except (EngineStartError, LocalAwsError, *MEASURING_ERRORS) as err:
        console.print(f"The bench broke off: {err}", markup=False, highlight=False, soft_wrap=True)
        return NOT_MEASURED
    console.print()
    tables.show(console, made)
    console.print()
    boot_budget.render(console)
    text = json.dumps(made, indent=2) + "\n"
    for path in (OUT / "node.json", *([RECORD] if options.record else [])):
        path.write_text(text)
        console.print(str(path), highlight=False)
    if slow := too_slow(made):
        console.print(slow, highlight=False)
    return TOO_SLOW if slow else 0


def too_slow(made: dict[str, Any]) -> str | None:
    """Say that a node comes too long after its engine, or None. An emulated engine's start is made up."""
    ratio = float(made["starts"]["managed_over_bare"]["median"])
    if made["engine"] != "real" or ratio <= LIMIT_OVER_BARE:
        return None
    return (
        f"A node took {ratio:.2f} x its engine's bare start (median); the limit is {LIMIT_OVER_BARE:.2f} x."
    )


def measure(engine: EngineKind, *, runs: int, console: Console) -> dict[str, Any]:
    """Measure each part, and return all figures as JSON values."""

    def tell(text: str) -> None:
        now = datetime.now(UTC).strftime("%H:%M:%S")
        console.print(f"[{now}] {text}", markup=False, highlight=False)

    folder = (OUT / "node").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if engine == "real":
        ensure_tiny_model()
    began = datetime.now(UTC)
    tell("starting a local AWS")
    with LocalAws(folder / "aws", engine=engine) as aws:
        pairs = starts.measure(engine, runs=runs, aws=aws, folder=folder, tell=tell)
        moved = transfers.measure(aws=aws, folder=folder / "transfers", tell=tell)
        compiled = compile_cache.measure(engine, runs=runs, aws=aws, folder=folder / "caches", tell=tell)
    return {
        "measured_at": began.isoformat(timespec="seconds"),
        "engine": engine,
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "starts": starts.summary(pairs),
        "compile_cache": compiled,
        "transfers": moved.to_json(),
    }


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.node", description="Measure a node by itself; needs no AWS account."
    )
    parser.add_argument("--engine", choices=("real", "emulated"), default="real")
    parser.add_argument("--runs", type=int, default=3, help="pairs of starts")
    parser.add_argument("--record", action="store_true", help=f"keep the figures in {RECORD.name} as well")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error(f"--runs is 1 or more, not {options.runs}")
    if options.record and options.engine != "real":
        parser.error("--record keeps figures of real vLLM only")
    return options


if __name__ == "__main__":
    sys.exit(main())
