"""The emulated engine's command line: vLLM's own flags, and those that set its pace and let it fail."""

from __future__ import annotations

import argparse
from enum import StrEnum


class Fault(StrEnum):
    """How an engine can fail while it serves."""

    HANG = "hang"
    """No token comes any more, while /health says 200 and the process lives."""
    EXIT = "exit"
    """The process ends at once, with the status of a crash."""


CRASH_STATUS = 1


def parser() -> argparse.ArgumentParser:
    """Return the command line's reader."""
    found = argparse.ArgumentParser(description="An emulated engine: vLLM's routes without vLLM.")
    found.add_argument("--host", default="127.0.0.1")
    found.add_argument("--port", type=int, default=8000)
    found.add_argument("--served-model-name", default="tiny")
    found.add_argument("--max-model-len", type=int, default=32768)
    found.add_argument("--max-num-seqs", type=int, default=256)
    found.add_argument("--shutdown-timeout", type=float, default=0, help="seconds; vLLM's own flag")
    found.add_argument("--start-seconds", type=float, default=2.0)
    found.add_argument("--exit-seconds", type=float, default=2.0, help="from the last answer to the end")
    found.add_argument("--tokens-per-second", type=float, default=200.0, help="of each request")
    found.add_argument("--model", default="", help="vLLM's own; only its name is used, and by nobody")
    found.add_argument("--warm-up-seconds", type=float, default=0.0, help="from the port to the first token")
    found.add_argument("--fail", type=Fault, choices=list(Fault), help="how to fail")
    found.add_argument("--fail-after-seconds", type=float, default=0.0, help="from the port on")
    found.add_argument("--core", action="store_true", help="have a child process, as vLLM's EngineCore is")
    return found
