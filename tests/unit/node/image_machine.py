"""A machine on which the image's component is played: a folder, and commands that answer as the real ones."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpu_node_bootstrap.user_data import AGENT_DIRECTORY

BOOTSTRAP = AGENT_DIRECTORY.parent
SCRIPTS = ("image/bake.sh", "image/check.sh", "image/clean.sh", "image/weights.py", "user_data.sh")
CONTAINER = "vllm/vllm-openai:v0.32.0"


def steps(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for phase in document["phases"]:
        for step in phase["steps"]:
            yield phase["name"], step


class Machine:
    """A machine under a folder, with commands that answer as Docker, AWS and systemd would."""

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        self.root = folder / "root"
        self.scripts = folder / "scripts"
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        self.health_port = free_port()
        self._document = document
        for path in (self.root / "root", self.root / "home" / "ec2-user", self.bin):
            path.mkdir(parents=True)
        archive(folder / "scripts.zip", BOOTSTRAP, SCRIPTS)
        agent = (path.relative_to(AGENT_DIRECTORY) for path in AGENT_DIRECTORY.rglob("*") if path.is_file())
        archive(
            folder / "agent.zip", AGENT_DIRECTORY, [str(p) for p in agent if "__pycache__" not in p.parts]
        )
        self.parameters = {
            "Region": "eu-west-1",
            "Scripts": "s3://assets/scripts.zip",
            "AgentBucket": "assets",
            "AgentKey": "agent.zip",
            "Container": CONTAINER,
            "WeightsUri": "none",
            "CompileCacheUri": "none",
        }
        self.command("aws", f'cp "{folder}/$(basename "${{@: -2:1}}")" "${{@: -1}}"')
        self.docker(pulled=True, version="0.32.0")
        self.command("systemctl", "exit 0")
        self.free_disk(gigabytes=60)
        self.command("sleep", f'[ "$1" -le 1 ] && exec {shutil.which("sleep")} 0.1; exit 0')

    def docker(self, *, pulled: bool, version: str) -> None:
        """Let the container be there or not, and hold a version of vLLM."""
        inspected = "echo sha256:1234" if pulled else "exit 1"
        self.command("docker", f'case "$1" in image) {inspected} ;; run) echo {version} ;; esac')

    def free_disk(self, *, gigabytes: int) -> None:
        """Leave so much of the disk free."""
        self.command("df", f"printf 'Avail\\n  {gigabytes}\\n'")

    def command(self, name: str, shell: str) -> None:
        program = self.bin / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> {self.calls}\n{shell}\n')
        program.chmod(0o755)

    def play(self, phase: str) -> subprocess.CompletedProcess[str]:
        """Run the steps of a phase as AWSTOE would; the first that fails ends it."""
        done = None
        for name, step in steps(self._document):
            if name != phase:
                continue
            done = self._run("\n".join(step["inputs"]["commands"]))
            if done.returncode != 0:
                break
        assert done is not None
        return done

    def _run(self, text: str) -> subprocess.CompletedProcess[str]:
        for name, value in self.parameters.items():
            text = text.replace(f"{{{{ {name} }}}}", value)
        environment = {
            "PATH": f"{self.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SPOT_FAILOVER_ROOT": str(self.root),
            "SPOT_FAILOVER_IMDS_ENDPOINT": "http://127.0.0.1:9",
            "HEALTH_PORT": str(self.health_port),
            "TMPDIR": str(self.root.parent),
        }
        return subprocess.run(
            ["bash", "-c", text.replace("/opt/spot-failover-image", str(self.scripts))],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def archive(target: Path, folder: Path, names: Any) -> None:
    with zipfile.ZipFile(target, "w") as zipped:
        for name in names:
            zipped.write(folder / name, name)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
