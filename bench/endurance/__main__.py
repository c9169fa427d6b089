"""`python -m bench.endurance`: exits 0 if nothing was lost and nothing grew, 1 if not, 2 if it broke off.

Writes out/endurance/ENGINE.json and the samples beside it; a full run's figures go to docs/measured as well.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from bench.endurance import tables
from bench.endurance.options import Options, parse
from bench.endurance.run import RoundsOnly, play
from bench.endurance.verdict import Run, report
from local_aws.demo.errors import DemoError
from local_aws.deploy import DeployError
from local_aws.engines.commands import REPOSITORY, EngineStartError
from local_aws.session import LocalAwsError

RECORD = REPOSITORY / "docs/measured/endurance.json"
NOT_KEPT, NOT_JUDGED, INTERRUPTED = 1, 2, 130
PLAIN_WIDTH = 150


def main() -> NoReturn:
    """Play the run, print its table, write its figures, and exit."""
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    options.out.mkdir(parents=True, exist_ok=True)

    try:
        with RoundsOnly(console, f"Endurance, {options.engine} engine") as progress:
            run = play(options, progress)
    except (DemoError, DeployError, EngineStartError, LocalAwsError) as err:
        console.print(f"The run broke off: {err}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(NOT_JUDGED)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(INTERRUPTED)
    made = report(run)
    tables.show(console, made)
    for path in write(options, run, made):
        console.print(str(path), highlight=False, soft_wrap=True)
    sys.exit(0 if made["passed"] else NOT_KEPT)


def write(options: Options, run: Run, made: dict[str, Any]) -> list[Path]:
    """Write the figures, and the samples that they were taken from; return where."""
    figures, samples = options.out / f"{options.engine}.json", options.out / f"{options.engine}-samples.jsonl"
    figures.write_text(json.dumps(made, indent=2) + "\n")
    samples.write_text("".join(json.dumps(asdict(each)) + "\n" for each in run.samples))
    if not options.full:
        return [figures, samples]
    kept = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    RECORD.write_text(json.dumps({**kept, options.engine: made}, indent=2, sort_keys=True) + "\n")
    return [figures, samples, RECORD]


if __name__ == "__main__":
    main()
