"""`python -m bench.control_plane.cold_start`: a function's cold start over its clients alone.

Imports and clients of each handler, from the bundle that is deployed, against an interpreter that makes the
same clients and nothing else; by turns, so that a slow minute slows both. The bundle has no bytecode, and
Lambda's disk takes none: none is written here.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.node.numbers import spread
from infra.bundle import PACKAGES, build_bundle
from local_aws.functions.runtime_directory import build_runtime_directory

ALLOWED = 1.3
REPOSITORY = Path(__file__).resolve().parent.parent.parent
RECORD = "docs/measured/cold_start.json"
FUNCTIONS = tuple(package for package in PACKAGES if package != "spot_failover")
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/dead-letters",
    "BOOT_LIMIT_SECONDS": "600",
    "DRAIN_DOCUMENT": "SpotFailover-DrainNode",
    "FLEET_TAG_KEY": "spot-failover:fleet",
    "GRACE_SECONDS": "120",
    "HOLD_RESERVE_SECONDS": "10",
    "INCIDENTS_FLEET_INDEX": "by_fleet",
    "INCIDENTS_OPEN_INDEX": "open",
    "INCIDENTS_TABLE": "incidents",
    "INCIDENT_TTL_DAYS": "90",
    "NOTICE_SECONDS": "120",
    "POWERTOOLS_LOG_LEVEL": "INFO",
    "POWERTOOLS_METRICS_NAMESPACE": "SpotFailover",
    "POWERTOOLS_SERVICE_NAME": "function",
    "QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/queue",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True)
class ColdStarts:
    """Where cold starts are played: a folder with the bundle, and one with what Lambda's runtime brings."""

    bundle: Path
    runtime: Path

    @classmethod
    def prepare(cls, folder: Path) -> ColdStarts:
        """Build both below `folder`. Raises `infra.bundle.BundleError`."""
        build_bundle(folder / "bundle")
        return cls(folder / "bundle", build_runtime_directory(folder / "runtime"))

    def play(self, what: str, argument: str) -> dict[str, Any]:
        """Run `cold_starts.py` in a fresh interpreter. Raises CalledProcessError, its complaint printed."""
        script = Path(__file__).with_name("cold_starts.py")
        done = subprocess.run(
            [sys.executable, "-S", str(script), what, argument],
            cwd=self.bundle,
            env={"PYTHONPATH": str(self.runtime), "PATH": os.environ["PATH"], **ENVIRONMENT},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer


@dataclass(frozen=True)
class Pair:
    """A bare cold start and a whole one right after it, in seconds of the clock and of the processor."""

    bare: float
    whole: float
    bare_processor: float
    whole_processor: float


def measure(starts: ColdStarts, *, runs: int) -> dict[str, list[Pair]]:
    """Return each function's cold starts, without the first, which finds files that nobody has read yet."""
    clients = {name: json.dumps(starts.play("clients", name)["clients"]) for name in FUNCTIONS}
    pairs: dict[str, list[Pair]] = {name: [] for name in FUNCTIONS}
    for _ in range(runs + 1):
        for name in FUNCTIONS:
            bare, whole = starts.play("bare", clients[name]), starts.play("real", name)
            seconds = (bare["seconds"], whole["seconds"])
            pairs[name].append(Pair(*seconds, bare["processor_seconds"], whole["processor_seconds"]))
    return {name: each[1:] for name, each in pairs.items()}


def summary(pairs: Mapping[str, Sequence[Pair]]) -> dict[str, dict[str, float]]:
    """Return each function's medians: milliseconds, and the ratio of each pair.

    The ratio that is judged is that of processor seconds: importing and making clients is nothing but work
    for the processor, and what other processes of this machine do with it is no part of the cold start.
    """
    return {
        name: {
            "bare_ms": round(spread([one.bare for one in each]).median * 1000),
            "whole_ms": round(spread([one.whole for one in each]).median * 1000),
            "ratio": spread([one.whole / one.bare for one in each]).median,
            "processor_ratio": spread([one.whole_processor / one.bare_processor for one in each]).median,
        }
        for name, each in pairs.items()
    }


def main() -> int:
    """Measure, print, record; return 1 if a function takes more than is allowed."""
    parser = argparse.ArgumentParser(description="Measure the functions' cold starts.")
    parser.add_argument("--runs", type=int, default=15, help="pairs of cold starts for each function")
    parser.add_argument("--record", action="store_true", help=f"write the figures into {RECORD}")
    options = parser.parse_args()
    began = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        found = summary(measure(ColdStarts.prepare(Path(folder)), runs=options.runs))
    table = Table(
        title=f"Cold start: imports and clients, medians of {options.runs} pairs; {ALLOWED} x is allowed",
        title_justify="left",
    )
    table.add_column("function")
    for title in ("clients alone, ms", "whole, ms", "ratio", "of processor"):
        table.add_column(title, justify="right")
    for name, each in found.items():
        ratios = (f"{each['ratio']:.2f}", f"{each['processor_ratio']:.2f}")
        table.add_row(name, f"{each['bare_ms']:.0f}", f"{each['whole_ms']:.0f}", *ratios)
    Console().print(table)
    if options.record:
        measured = {
            "measured_at": began.isoformat(timespec="seconds"),
            "runs": options.runs,
            "functions": found,
        }
        (REPOSITORY / RECORD).write_text(json.dumps(measured, indent=2) + "\n")
    return 1 if max(each["processor_ratio"] for each in found.values()) > ALLOWED else 0


if __name__ == "__main__":
    sys.exit(main())
