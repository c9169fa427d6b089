"""The tools that a measured node finds in the place of its own answer as the real ones do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.node.links import MEGABYTE, ByteServer, Link

TOOLS = Path(__file__).resolve().parents[3] / "bench/node"


def run(tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(TOOLS / tool), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_aws_copies_what_the_folder_holds_and_refuses_what_it_does_not(tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "key").write_text("content")
    to = tmp_path / "copy"
    options = ("--only-show-errors", "--region", "us-east-1")
    assert run("aws_tool.py", str(tmp_path), "s3", "cp", *options, "s3://bucket/key", str(to)).returncode == 0
    assert to.read_text() == "content"
    refused = run("aws_tool.py", str(tmp_path), "s3", "cp", "s3://bucket/none", str(to))
    assert refused.returncode == 254
    assert "404" in refused.stderr


def test_aws_takes_note_of_every_other_call(tmp_path: Path) -> None:
    done = run("aws_tool.py", str(tmp_path), "autoscaling", "set-instance-health", "--instance-id", "i-1")
    assert (done.returncode, done.stdout) == (0, "{}\n")
    assert (tmp_path / "calls.log").read_text() == "autoscaling set-instance-health --instance-id i-1\n"


def test_docker_knows_an_image_once_it_has_pulled_its_bytes(tmp_path: Path) -> None:
    with ByteServer(Link(100 * MEGABYTE)) as registry:
        where = (str(tmp_path), f"{registry.url}/{MEGABYTE}")
        assert run("docker_tool.py", *where, "image", "inspect", "x").returncode == 1
        assert run("docker_tool.py", *where, "pull", "x").returncode == 0
        assert run("docker_tool.py", *where, "image", "inspect", "x").stdout == f"{MEGABYTE}\n"


def test_docker_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    refused = run("docker_tool.py", str(tmp_path), "http://127.0.0.1:1/1", "run", "x")
    assert refused.returncode == 1
    assert "not supported" in refused.stderr
