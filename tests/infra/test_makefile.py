"""A wrong option of `make demo` stops with one sentence."""

from __future__ import annotations

import subprocess

import pytest

from tests.infra.templates import REPOSITORY


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--dry-run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)


@pytest.mark.parametrize("engine", ["foo", ""])
def test_an_unknown_engine_is_named_with_what_is_allowed(engine: str) -> None:
    done = make("demo", f"ENGINE={engine}")
    assert done.returncode != 0
    assert f'ENGINE is "{engine}"; allowed: real, emulated.' in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("engine", ["real", "emulated"])
def test_both_engines_are_taken(engine: str) -> None:
    done = make("demo", f"ENGINE={engine}")
    assert done.returncode == 0, done.stderr
    assert f"--engine {engine}" in done.stdout


def test_other_targets_do_not_ask_for_the_engine() -> None:
    assert make("help", "ENGINE=foo").returncode == 0
