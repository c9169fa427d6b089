"""`make bench` and `make soak` run the engine that was asked for, and say so when there is no such one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--dry-run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("bench",), "bench.node --engine real --runs 3"),
        (("bench", "ENGINE=emulated", "RUNS=1"), "bench.node --engine emulated --runs 1"),
        (("bench",), "bench.control_plane.storm --nodes 1000 --fleets 20"),
        (("bench",), "bench.control_plane.cold_start"),
        (("storm", "STORM_NODES=40", "STORM_FLEETS=2"), "bench.control_plane.storm --nodes 40 --fleets 2"),
        (("soak",), "bench.node.cycles --engine emulated --cycles 50"),
        (("soak", "ENGINE=real", "CYCLES=3"), "bench.node.cycles --engine real --cycles 3"),
        (("demo",), "local_aws.demo --engine real"),
        (("endurance",), "bench.endurance --engine emulated"),
        (("endurance", "ENGINE=real", "INTERRUPTIONS=3"), "bench.endurance --engine real --interruptions 3"),
        (("endurance", "REQUESTS=9"), "--requests 9"),
    ],
)
def test_target_runs_what_it_says(arguments: tuple[str, ...], command: str) -> None:
    done = make(*arguments)
    assert done.returncode == 0, done.stderr
    assert command in done.stdout


@pytest.mark.parametrize("target", ["bench", "soak", "endurance"])
def test_unknown_engine_is_named_with_what_is_allowed(target: str) -> None:
    done = make(target, "ENGINE=foo")
    assert done.returncode != 0
    assert 'ENGINE is "foo"; allowed: real, emulated.' in done.stderr
