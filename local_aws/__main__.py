"""`python -m local_aws serve`: a local AWS as a process of its own."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from local_aws.server import serve


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m local_aws", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("serve", help="run a local AWS until it is told to stop")
    command.add_argument("--port", type=int, default=0, help="the endpoint's port (0: any free one)")
    command.add_argument("--state-dir", type=Path, required=True, help="logs, nodes' folders, bundles")
    command.add_argument(
        "--engine", choices=["real", "emulated", "none"], default="emulated", help="what nodes run"
    )
    command.add_argument("--region", default="us-east-1")
    command.add_argument(
        "--until-stdin-closes", action="store_true", help="stop with the process that holds our stdin"
    )
    given = parser.parse_args(arguments)
    # Standard error, because standard output carries the ready line.
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    serve(
        port=given.port,
        state_dir=given.state_dir,
        engine=given.engine,
        region=given.region,
        until_stdin_closes=given.until_stdin_closes,
    )


if __name__ == "__main__":
    main()
