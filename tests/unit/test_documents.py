"""What the documents tell a reader to open or to write is there and works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpu_node_bootstrap.node_agent.env_file import parse_env_file
from gpu_node_bootstrap.node_agent.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_of_the_repository_resolves(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", document.read_text())
    absent = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert absent == []


def test_the_settings_that_a_joining_fleet_writes_start_an_agent() -> None:
    (example,) = re.findall(
        r"```\n(   SPOT_FAILOVER_FLEET.*?)```", (ROOT / "docs/joining.md").read_text(), re.S
    )
    settings = Settings.from_environment(parse_env_file(re.sub(r"^   ", "", example, flags=re.M)))
    assert (settings.fleet, settings.lifecycle_hook) == ("chat", "")
    assert settings.engine_args == ("--max-model-len", "8192")
    version = (ROOT / "gpu_node_bootstrap/vllm_version.txt").read_text().strip()
    assert settings.image == f"vllm/vllm-openai:v{version}"
