"""What is gathered of a node that failed."""

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest

from gpu_node_bootstrap.node_agent import diagnosis
from gpu_node_bootstrap.node_agent.diagnosis import LONGEST_LINE, MOST_LINES, bounded, collect, disk, gpus


def test_a_part_that_hangs_or_fails_costs_the_others_nothing() -> None:
    def fails() -> object:
        raise RuntimeError("no docker")

    began = time.monotonic()
    found = collect(
        {"engine": lambda: {"pid": 1}, "gpus": threading.Event().wait, "log": fails, "disk": lambda: 5},
        within_seconds=0.3,
    )
    assert time.monotonic() - began < 1
    assert found == {
        "engine": {"pid": 1},
        "gpus": "no answer within 0.3 s",
        "log": "failed: RuntimeError('no docker')",
        "disk": 5,
    }


def test_a_log_is_bounded_in_lines_and_in_their_length() -> None:
    lines = bounded([f"{number} " + "x" * 10_000 for number in range(200)])
    assert (len(lines), len(lines[0])) == (MOST_LINES, LONGEST_LINE)
    assert lines[-1].startswith("199 ")


def test_the_disk_of_a_folder_that_is_not_there_yet_is_the_one_that_it_will_be_on(tmp_path: Path) -> None:
    found = disk(str(tmp_path / "not" / "yet"))
    assert found["path"] == str(tmp_path)
    assert 0 < int(str(found["free_bytes"])) <= int(str(found["total_bytes"]))


def command(folder: Path, shell: str) -> None:
    folder.mkdir()
    (folder / "nvidia-smi").write_text(f"#!/bin/bash\n{shell}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_the_driver_is_asked_for_each_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus() == "no nvidia-smi on this node"
    command(tmp_path / "bin", 'echo "NVIDIA L40S, 580.95, 0 MiB, 46068 MiB, 31, 0"; echo "$1" >&2')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert gpus() == [
        "NVIDIA L40S, 580.95, 0 MiB, 46068 MiB, 31, 0",
        f"--query-gpu={diagnosis.GPU_QUERY}",
    ]


def test_a_driver_that_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "PART_SECONDS", 0.2)
    command(tmp_path / "bin", "exec sleep 30")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(subprocess.TimeoutExpired):
        gpus()
