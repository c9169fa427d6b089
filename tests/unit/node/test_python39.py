"""The agent under the oldest Python that it promises: that of a fresh Amazon Linux 2023 node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from gpu_node_bootstrap.user_data import AGENT_DIRECTORY


def test_every_module_is_imported_and_the_command_line_answers(python39: str, tmp_path: Path) -> None:
    modules = [f"node_agent.{path.stem}" for path in AGENT_DIRECTORY.glob("*.py") if path.stem != "__main__"]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(AGENT_DIRECTORY.parent),
        "PYTHONPYCACHEPREFIX": str(tmp_path),
    }
    imports = "import " + ", ".join(modules)
    strict = [python39, "-s", "-W", "error", "-c", imports]
    subprocess.run(strict, env=environment, check=True, capture_output=True)
    done = subprocess.run(
        [python39, "-m", "node_agent", "--help"], env=environment, check=True, capture_output=True, text=True
    )
    assert "spot-failover-node" in done.stdout
