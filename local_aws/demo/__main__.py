"""`python -m local_aws.demo`: exits 0 if the promise was kept, 1 if not, 2 if it could not be judged."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

from rich.console import Console

from local_aws.demo import scenario, summary
from local_aws.demo.errors import DemoError
from local_aws.demo.options import Options, parse
from local_aws.demo.picture import draw
from local_aws.demo.progress import LiveProgress, PlainProgress, Progress
from local_aws.demo.report import report
from local_aws.deploy import DeployError
from local_aws.engines.commands import EngineStartError
from local_aws.session import LocalAwsError

NOT_KEPT, NOT_JUDGED, INTERRUPTED = 1, 2, 130
# Without a terminal rich takes 80 columns, which breaks every figure of the tables.
PLAIN_WIDTH = 130


def main() -> NoReturn:
    """Play the run, write the report and the picture, print the table, and exit."""
    options = parse()
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    try:
        outcome = _play(options, console)
    except (DemoError, DeployError, EngineStartError, LocalAwsError) as err:
        console.print(f"The demo broke off: {err}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(NOT_JUDGED)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(INTERRUPTED)
    made = report(outcome.run)
    report_path, picture_path = options.out / "report.json", options.out / "timeline.png"
    report_path.write_text(json.dumps(made, indent=2) + "\n")
    draw(outcome.story, picture_path)
    summary.show(console, made)
    console.print(f"{report_path}\n{picture_path}", highlight=False)
    sys.exit(0 if made["passed"] else NOT_KEPT)


def _play(options: Options, console: Console) -> scenario.Outcome:
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "timeline.png"):
        (options.out / name).unlink(missing_ok=True)  # an old one must not pass for this run's
    title = f"Spot Failover demo, {scenario.ENGINE_NAMES[options.engine]}"
    shown: type[LiveProgress] | type[PlainProgress] = LiveProgress if console.is_terminal else PlainProgress
    progress: Progress
    with shown(console, title) as progress:
        return scenario.play(options, progress)


if __name__ == "__main__":
    main()
