"""What a local node is made of before it boots: its root folder, its tools and its environment.

A node of EC2 brings systemd, the AWS command line and Python; a local one gets them in a folder that comes
first on its PATH. Everything else comes from the deployed user data.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from local_aws.nodes.processes import NODE_MARK

_HERE = Path(__file__).resolve().parent
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A Unix socket's path has at most 107 bytes, and vLLM's lie in the node's tmp under 36-letter names.
_LONGEST_ROOT = 66
_LINKS = itertools.count()


@dataclass(frozen=True)
class EngineProcess:
    """How a local node runs its engine: a command in the place of the container."""

    command: Sequence[str]
    """With `{model}` where the agent puts what it prepared."""
    environment: Mapping[str, str]
    model: str
    """Stands for the hub's model of that name, where a fleet keeps no weights of its own."""


@dataclass(frozen=True)
class NodeFolders:
    """Where a node's files lie: `home` holds its logs, `root` is what it takes for /."""

    home: Path
    root: Path

    @property
    def tools(self) -> Path:
        """What comes first on the node's PATH."""
        return self.home / "bin"

    @property
    def console(self) -> Path:
        """What user data prints."""
        return self.home / "console.log"

    @property
    def kernel_log(self) -> Path:
        """What the node takes for /dev/kmsg: a file, so that a test can add what no driver says here."""
        return self.root / "dev/kmsg"

    @property
    def agent_socket(self) -> Path:
        """Where the node agent takes commands."""
        return self.root / "run/spot-failover/agent.sock"

    @property
    def journal(self) -> Path:
        """What the node agent's unit prints."""
        return self.root / "var/log/journal/spot-failover-agent.service.log"


def make_folders(home: Path) -> NodeFolders:
    """Make a node's folders and tools."""
    root = home / "root"
    for folder in ("dev", "etc/spot-failover", "run", "tmp", "var/log", "root"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    folders = NodeFolders(home=home, root=_short(root))
    folders.kernel_log.touch()
    folders.tools.mkdir(exist_ok=True)
    _tool(folders, "systemctl", [sys.executable, "-I", "-S", str(_HERE / "systemctl.py")])
    _tool(folders, "aws", [str(Path(sys.prefix) / "bin" / "aws")])
    python = folders.tools / "python3"
    if not python.exists():
        python.symlink_to(Path(sys.executable).resolve())
    return folders


def _short(root: Path) -> Path:
    if len(os.fsencode(root)) <= _LONGEST_ROOT:
        return root
    link = _short_names() / str(next(_LINKS))
    link.symlink_to(root)
    return link


@lru_cache(maxsize=1)
def _short_names() -> Path:
    """Return this process's folder of links, which is gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="nodes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _tool(folders: NodeFolders, name: str, command: Sequence[str]) -> None:
    path = folders.tools / name
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)


def node_environment(
    *,
    folders: NodeFolders,
    instance_id: str,
    endpoint_url: str,
    imds_endpoint: str,
    launched_at: float,
    process_mark: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment that all processes of a node start with. Nothing is inherited from ours.

    `launched_at` (epoch seconds) is when the node's machine started; our kernel's own start says nothing.
    """
    scratch = str(folders.root / "tmp")
    return {
        "PATH": f"{folders.tools}:{folders.root}/usr/local/bin:{_SYSTEM_PATH}",
        "HOME": str(folders.root / "root"),
        "LANG": "C.UTF-8",
        # A killed engine leaves its sockets behind, and on EC2 they are gone with the machine.
        "TMPDIR": scratch,
        "VLLM_RPC_BASE_PATH": scratch,
        "SPOT_FAILOVER_ROOT": str(folders.root),
        "SPOT_FAILOVER_BOOTED_AT": f"{launched_at:.3f}",
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds_endpoint,
        # vLLM renames its processes, and setproctitle would overwrite the mark in /proc with the new name.
        "SPT_NOENV": "1",
        NODE_MARK: instance_id,
        **process_mark,
    }


def write_local_settings(
    *, folders: NodeFolders, address: str, imds_endpoint: str, engine: EngineProcess
) -> None:
    """Write the operator's overrides that make a node local: its addresses, its files, and its engine."""
    settings = {
        "SPOT_FAILOVER_ENGINE": "process",
        "SPOT_FAILOVER_ENGINE_COMMAND": json.dumps(list(engine.command)),
        "SPOT_FAILOVER_MODEL": engine.model,
        "SPOT_FAILOVER_CONTAINER_CACHE": str(folders.root / "var/lib/spot-failover/cache"),
        "SPOT_FAILOVER_KERNEL_LOG": str(folders.kernel_log),
        "SPOT_FAILOVER_ENGINE_HOST": address,
        "SPOT_FAILOVER_HEALTH_HOST": address,
        "SPOT_FAILOVER_IMDS_ENDPOINT": imds_endpoint,
        **engine.environment,
    }
    lines = [f"{name}={_quoted(value)}\n" for name, value in settings.items()]
    (folders.root / "etc/spot-failover/local.env").write_text("".join(lines))


def _quoted(value: str) -> str:
    # As systemd.exec(5) reads it back.
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
