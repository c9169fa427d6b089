"""The demo's command line. A bad value ends it with one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, get_args

from local_aws.world import EngineKind

DEFAULT_OUT = Path("out/demo")
# A drain waits 15 s for late requests and keeps 8 s in hand (see gpu_node_bootstrap).
MIN_NOTICE_SECONDS, MAX_NOTICE_SECONDS = 40, 120


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to show."""

    engine: EngineKind
    nodes: int
    notice_seconds: int
    interruptions: int
    clients: int
    out: Path


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse puts "argument --x: " before our own sentences, which name the option already.
        ours = message.startswith("argument ") and ": --" in message
        self.exit(2, f"{message.partition(': ')[2] if ours else message}.\n")


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; exits with status 2 and one sentence where it is wrong."""
    parser = _Parser(
        prog="python -m local_aws.demo",
        description="Interrupt nodes of a local vLLM fleet under traffic; check that clients notice nothing.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--engine",
        type=_engine,
        default="real",
        metavar="real|emulated",
        help="vLLM itself, or a quick stand-in",
    )
    parser.add_argument("--nodes", type=_whole("--nodes", 2, 8), default=2, help="nodes of the fleet")
    parser.add_argument(
        "--notice-seconds",
        type=_whole("--notice-seconds", MIN_NOTICE_SECONDS, MAX_NOTICE_SECONDS),
        default=120,
        help="seconds from a notice to the node's end; EC2 gives 120",
    )
    parser.add_argument(
        "--interruptions",
        type=_whole("--interruptions", 1, 20),
        default=2,
        help="nodes to take away, one after another",
    )
    parser.add_argument(
        "--clients", type=_whole("--clients", 1, 64), default=4, help="clients that ask again and again"
    )
    parser.add_argument(
        "--out", type=_folder, default=DEFAULT_OUT, help="folder for the report and the picture"
    )
    return Options(**vars(parser.parse_args(arguments)))


def _engine(text: str) -> str:
    if text not in get_args(EngineKind):
        raise argparse.ArgumentTypeError(f"--engine is 'real' or 'emulated', not {text!r}")
    return text


def _whole(name: str, low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.strip().isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{name} is a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return read


def _folder(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"--out is a folder, and {text!r} is a file")
    return path
