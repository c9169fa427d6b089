"""What an endurance run consists of: a profile for each engine, and the command line that may change it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from local_aws.world import EngineKind

DEFAULT_OUT = Path("out/endurance")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What an engine allows on a small machine, and how much a full run has of it."""

    nodes: int
    notice_seconds: int
    interruptions: int
    """Of a full run: one with fewer is a trial, and its result is not kept."""
    requests: int
    """Of a full run, at least."""
    client_processes: int
    clients: int
    """Of each process."""
    requests_per_second: float | None
    """Of all clients together; None: each rests between two answers as the demo's clients do."""
    witness: bool
    """Whether the oldest node is never taken, so that one agent and one engine see the whole run."""
    drains_overlap: bool
    """Whether the next notice may come while the last node still drains, once its replacement serves."""


PROFILES: dict[EngineKind, Profile] = {
    "emulated": Profile(
        nodes=3,
        notice_seconds=30,
        interruptions=100,
        requests=50_000,
        client_processes=2,
        clients=24,
        requests_per_second=60.0,
        witness=True,
        drains_overlap=True,
    ),
    # An engine takes a core whenever it has a request, and most of one while it starts.
    "real": Profile(
        nodes=2,
        notice_seconds=120,
        interruptions=10,
        requests=200,
        client_processes=1,
        clients=4,
        requests_per_second=None,
        witness=False,
        drains_overlap=False,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """One run."""

    engine: EngineKind
    profile: Profile
    interruptions: int
    requests: int
    out: Path

    @property
    def full(self) -> bool:
        """Whether the run is as long as one whose result is kept."""
        wanted = self.profile
        return self.interruptions >= wanted.interruptions and self.requests >= wanted.requests


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; exits with status 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.endurance",
        description="Interrupt node after node of a local fleet under steady traffic; needs no AWS account.",
    )
    parser.add_argument("--engine", choices=get_args(EngineKind), default="emulated")
    parser.add_argument("--interruptions", type=int, help="how many, one after another; 100, or 10 if real")
    parser.add_argument("--requests", type=int, help="how many at least; 50000, or 200 if real")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder for the run's logs and figures")
    given = parser.parse_args(arguments)
    profile = PROFILES[given.engine]
    options = Options(
        engine=given.engine,
        profile=profile,
        interruptions=profile.interruptions if given.interruptions is None else given.interruptions,
        requests=profile.requests if given.requests is None else given.requests,
        out=given.out,
    )
    for name in ("interruptions", "requests"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is 1 or more, not {getattr(options, name)}")
    return options
