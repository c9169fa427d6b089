"""The runbooks show what a node really says: their samples have its very fields, and their commands exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import cli
from gpu_node_bootstrap.node_agent.boot import BootRecord, Phase
from gpu_node_bootstrap.node_agent.drain import DrainOutcome, EngineExit, Trigger
from gpu_node_bootstrap.node_agent.hook import HookResult, HookView
from gpu_node_bootstrap.node_agent.state import NodeState
from infra.names import node_log_group_name

ROOT = Path(__file__).resolve().parents[3]
RUNBOOKS = ROOT / "docs/runbooks"
NOT_READY, CUT = (RUNBOOKS / name for name in ("node-not-ready.md", "drain-was-cut.md"))


def samples(runbook: Path) -> list[dict[str, Any]]:
    """Return every object of a runbook's JSON samples, a log's lines one by one."""
    found: list[dict[str, Any]] = []
    for text in re.findall(r"```json\n(.*?)```", runbook.read_text(), re.S):
        decoder, rest = json.JSONDecoder(), text.strip()
        while rest:
            value, end = decoder.raw_decode(rest)
            found.append(value)
            rest = rest[end:].strip()
    return found


def test_boot_of_the_sample_has_the_fields_of_a_real_one() -> None:
    boot = BootRecord()
    boot.begin(Phase.KERNEL, at=0.0)
    boot.end(Phase.KERNEL, at=1.0)
    real: dict[str, Any] = dict(boot.to_json())
    shown = samples(NOT_READY)[0]["boot"]
    assert shown.keys() == real.keys()
    for phase in shown["phases"]:
        assert phase.keys() >= real["phases"][0].keys()
        assert Phase(phase["phase"])
    assert samples(NOT_READY)[0]["hook"].keys() == HookView(HookResult.PENDING).to_json().keys()


def test_outcome_of_the_sample_has_the_fields_of_a_real_one() -> None:
    real = DrainOutcome(
        instance_id="i-1",
        trigger=Trigger.IMDS,
        started_at=0.0,
        finished_at=1.0,
        deadline=2.0,
        in_flight_at_start=3,
        finished=1,
        cut=2,
        engine_exit=EngineExit.KILLED,
    ).to_json()
    shown = samples(CUT)[0]["drain"]["outcome"]
    assert shown.keys() == real.keys()
    assert (shown["outcome"], shown["engine_exit"]) == (real["outcome"], real["engine_exit"])


@pytest.mark.parametrize("state", list(NodeState))
def test_every_state_is_explained(state: NodeState) -> None:
    assert f"`{state.value}`" in NOT_READY.read_text()


@pytest.mark.parametrize(
    "phase", [p for p in Phase if p not in (Phase.KERNEL, Phase.USER_DATA, Phase.COMPILE_CACHE)]
)
def test_every_phase_that_can_stall_a_boot_has_its_row(phase: Phase) -> None:
    assert re.search(rf"^\| .*`{phase.value}`", NOT_READY.read_text(), re.M)


@pytest.mark.parametrize("ending", list(EngineExit))
def test_every_end_of_an_engine_is_explained(ending: EngineExit) -> None:
    assert f"`{ending.value}`" in CUT.read_text()


@pytest.mark.parametrize("runbook", [NOT_READY, CUT])
def test_commands_for_the_node_are_ones_that_it_has(runbook: Path) -> None:
    words = set(re.findall(r"spot-failover-node (\w+)", runbook.read_text()))
    assert words
    for word in words:
        assert cli._parser().parse_args([word]).command == word


def test_log_group_is_the_fleets_own() -> None:
    for runbook in (NOT_READY, CUT):
        assert f'"{node_log_group_name("$fleet")}"' in runbook.read_text()
