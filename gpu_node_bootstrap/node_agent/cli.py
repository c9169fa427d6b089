"""The command line on the node: `spot-failover-node run|drain|status|diagnose|wait`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from .agent import Agent
from .control import ask
from .deadlines import parse_deadlines
from .env_file import effective_environment
from .errors import AgentError
from .log import Log
from .settings import Settings, socket_path

AGENT_COMES_WITHIN_SECONDS = 5.0
"""A command can meet the agent between two of its lives."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0 done, 1 failed, 2 misused."""
    parsed = _parser().parse_args(arguments)
    environment = effective_environment(os.environ)
    try:
        if parsed.command == "run":
            return _run(Settings.from_environment(environment))
        if parsed.command == "drain":
            return _drain(socket_path(environment), parsed.deadlines)
        if parsed.command == "wait":
            ask(socket_path(environment), {"do": "status"}, connect_seconds=parsed.seconds)
            return 0
        return _show(socket_path(environment), parsed.command)
    except (AgentError, OSError) as err:
        print(f"spot-failover-node: {err}", file=sys.stderr)
        return 1


def _run(settings: Settings) -> int:
    return Agent(settings, log=Log(fleet=settings.fleet)).run()


def _drain(socket: str, deadlines: str | None) -> int:
    request: dict[str, object] = {"do": "drain"}
    if deadlines is not None:
        parse_deadlines(deadlines)
        request["deadlines"] = deadlines
    answer = ask(socket, request, connect_seconds=AGENT_COMES_WITHIN_SECONDS)
    print(json.dumps(answer["outcome"]))
    return 0


def _show(socket: str, what: str) -> int:
    print(json.dumps(ask(socket, {"do": what}, connect_seconds=0)[what], indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spot-failover-node", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run", help="run the engine and serve until told to end; systemd does this")
    drain = commands.add_parser("drain", help="drain, or join the drain that runs; print its outcome as JSON")
    drain.add_argument(
        "--deadlines",
        metavar="INSTANCE@TIME,...",
        help="deadlines in UTC, this node's among them; without it the drain takes as long as systemd allows",
    )
    commands.add_parser("status", help="print state, boot, engine and drain as JSON")
    commands.add_parser("diagnose", help="print the status, and what engine, disk and GPUs say now")
    wait = commands.add_parser("wait", help="return once the agent answers; 1 where it does not come up")
    wait.add_argument("--seconds", type=float, default=AGENT_COMES_WITHIN_SECONDS)
    return parser
