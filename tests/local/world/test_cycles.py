"""A node's whole life leaves nothing behind, cycle after cycle, and what is planted does not go unnoticed."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from bench.node.cycles import DrainBy, make_node, play, summary
from local_aws.nodes.processes import NODE_MARK


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Return a folder in the place of /tmp, in which other programs make files at any time."""
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


def test_three_lives_leave_nothing_behind(tmp_path: Path, shared: Path) -> None:
    with make_node(tmp_path / "node", "emulated") as node:
        played = list(play(node, cycles=3, shared_folders=[shared]))
    assert [cycle.drain_by for cycle in played] == list(DrainBy)
    made = summary("emulated", played)
    assert made["leftovers"] == []
    assert made["drains"] == {"notice": 1, "command": 1, "sigterm": 1}


def test_what_is_planted_is_found_in_its_own_cycle(tmp_path: Path, shared: Path) -> None:
    planted: list[subprocess.Popen[bytes]] = []
    with make_node(tmp_path / "node", "emulated") as node, socket.socket() as forgotten:

        def plant(_: int) -> None:
            marked = {**os.environ, NODE_MARK: node.instance_id}
            planted.append(subprocess.Popen(["sleep", "300"], env=marked, start_new_session=True))
            (node.folders.root / "run" / "agent.pid").touch()
            (shared / "torchinductor_root").mkdir()
            forgotten.bind((node.address, 0))
            forgotten.listen()

        (cycle,) = play(node, cycles=1, shared_folders=[shared], between=plant)
    planted[0].wait()
    assert [leftover.kind for leftover in cycle.leftovers] == ["file", "port", "process", "shared file"]
    assert cycle.leftovers[0].what == "root/run/agent.pid"
    assert summary("emulated", [cycle])["leftovers"][0] == "cycle 1: file root/run/agent.pid"
