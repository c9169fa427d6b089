"""What the documents tell a reader to open or to write is there and works."""

from __future__ import annotations

import json
import re
from datetime import datetime
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


def test_the_readme_shows_the_figures_of_the_kept_demo_report() -> None:
    report = json.loads((ROOT / "docs/measured/demo.json").read_text())
    readme = (ROOT / "README.md").read_text()
    incidents, requests = report["interruptions"], report["requests"]

    def slowest(step: str) -> float:
        return max(_seconds(each["noticed_at"], each[step]) for each in incidents)

    recovery = [each["recovery_seconds"] for each in incidents]
    own = [each["recovery_seconds"] / each["engine_start_seconds"] for each in incidents]
    drains = [_seconds(each["drain_started_at"], each["drained_at"]) for each in incidents]
    bare = report["engine_bare_start_seconds"]
    actions = ("deregistered_at", "drain_requested_at", "replacement_requested_at")
    for row in (
        f"| {requests['total']}, of which lost: {requests['failed']}, retried: {requests['retried']} |",
        f"| {' / '.join(f'{slowest(step):.1f}' for step in actions)} s, the slower of two; functions cold |",
        f"| {max(recovery):.1f} s |",
        f"| {max(recovery) / bare:.2f} x (bare start {bare:.1f} s) |",
        f"| {max(own):.2f} x |",
        f"| {max(drains):.1f} s, cut requests: {sum(each['cut_requests'] for each in incidents)} |",
        f"| {max(each['capacity_gap_seconds'] for each in incidents):.1f} s |",
    ):
        assert row in readme, row


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
