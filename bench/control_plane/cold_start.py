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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.node.numbers import ratios, spread
from infra.bundle import PACKAGES, build_bundle
from local_aws.functions.runtime_directory import build_runtime_directory

ALLOWED = 1.3
FUNCTIONS = tuple(package for package in PACKAGES if package != "spot_failover")
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.us-east-1.amazonaws.com/123456789012/dead-letters",
    "DRAIN_DOCUMENT": "SpotFailover-DrainNode",
    "FLEET_TAG_KEY": "spot-failover:fleet",
    "INCIDENTS_FLEET_INDEX": "by_fleet",
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


def measure(starts: ColdStarts, *, runs: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each function's cold starts, and of the bare ones between them."""
    clients = {name: json.dumps(starts.play("clients", name)["clients"]) for name in FUNCTIONS}
    seconds: dict[str, dict[str, list[float]]] = {name: {"real": [], "bare": []} for name in FUNCTIONS}
    for number in range(runs + 1):
        for name in FUNCTIONS:
            bare = starts.play("bare", clients[name])["seconds"]
            real = starts.play("real", name)["seconds"]
            if number:  # the first round finds files that nobody has read yet
                seconds[name]["bare"].append(bare)
                seconds[name]["real"].append(real)
    return seconds


def median_ratios(seconds: Mapping[str, Mapping[str, list[float]]]) -> dict[str, float]:
    """Return each function's median of real over bare, pair by pair."""
    return {name: spread(ratios(each["real"], each["bare"])).median for name, each in seconds.items()}


def main() -> int:
    """Measure, print, and return 1 if a function takes more than is allowed."""
    parser = argparse.ArgumentParser(description="Measure the functions' cold starts.")
    parser.add_argument("--runs", type=int, default=15, help="pairs of cold starts for each function")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(ColdStarts.prepare(Path(folder)), runs=options.runs)
    found = median_ratios(seconds)
    table = Table(
        title=f"Cold start: imports and clients, ms, median of {options.runs} ({ALLOWED} x is allowed)",
        title_justify="left",
    )
    for title in ("function", "its clients alone", "whole", "ratio, pair by pair"):
        table.add_column(title, justify="left" if title == "function" else "right")
    for name, each in seconds.items():
        bare, real = (spread(each[kind]) for kind in ("bare", "real"))
        table.add_row(name, f"{bare.median * 1000:.0f}", f"{real.median * 1000:.0f}", f"{found[name]:.2f}")
    Console().print(table)
    return 1 if max(found.values()) > ALLOWED else 0


if __name__ == "__main__":
    sys.exit(main())
