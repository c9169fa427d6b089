"""What a node is told when it boots."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.infra.templates import Template

EC2_LIMIT_BYTES = 16 * 1024


def user_data(fleet: Template) -> str:
    return fleet.text(fleet.only("AWS::EC2::LaunchTemplate")["LaunchTemplateData"]["UserData"])


def settings(fleet: Template) -> dict[str, str]:
    """Return the node's settings as the deployed user data writes them."""
    script = user_data(fleet).split("# Boots a node", 1)[0] + "\nnode_settings"
    written = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    return dict(line.split("=", 1) for line in written.splitlines())


@pytest.mark.parametrize("name", ["fleet", "public_fleet", "fleet_in_existing_vpc"])
def test_it_fits_ec2s_limit_and_is_a_script_that_bash_can_read(
    name: str, request: pytest.FixtureRequest
) -> None:
    script = user_data(request.getfixturevalue(name))
    assert len(script.encode()) < EC2_LIMIT_BYTES
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_it_names_the_group_the_hook_the_ports_and_the_model(fleet: Template) -> None:
    told = settings(fleet)
    assert told["SPOT_FAILOVER_FLEET"] == '"default"'
    assert told["SPOT_FAILOVER_ASG_NAME"] == '"spot-failover-default"'
    assert told["SPOT_FAILOVER_LIFECYCLE_HOOK"] == '"spot-failover-ready"'
    assert (told["SPOT_FAILOVER_ENGINE_PORT"], told["SPOT_FAILOVER_HEALTH_PORT"]) == ('"8000"', '"8081"')
    assert told["SPOT_FAILOVER_MODEL"] == '"Qwen/Qwen3-8B"'


@pytest.mark.parametrize(("name", "limit"), [("fleet", 1800), ("public_fleet", 900)])
def test_the_agent_knows_how_long_a_start_may_take_and_judges_before_the_hook_does(
    name: str, limit: int, request: pytest.FixtureRequest
) -> None:
    fleet = request.getfixturevalue(name)
    assert settings(fleet)["SPOT_FAILOVER_START_LIMIT_SECONDS"] == f'"{limit}"'
    (hook,) = fleet.only("AWS::AutoScaling::AutoScalingGroup")["LifecycleHookSpecificationList"]
    assert limit < hook["HeartbeatTimeout"] <= limit + 120


def test_the_container_is_the_pinned_vllm(fleet: Template) -> None:
    version = (
        (Path(__file__).resolve().parents[2] / "gpu_node_bootstrap" / "vllm_version.txt").read_text().strip()
    )
    assert settings(fleet)["SPOT_FAILOVER_IMAGE"] == f'"vllm/vllm-openai:v{version}"'


def test_quotes_dollars_and_json_reach_the_agent_unharmed(public_fleet: Template) -> None:
    told = settings(public_fleet)
    assert told["SPOT_FAILOVER_MODEL"] == "\"org/model-with-'quotes'-and-$dollars\""
    arguments = told["SPOT_FAILOVER_ENGINE_ARGS"][1:-1].replace('\\"', '"').replace("\\\\", "\\")
    assert json.loads(arguments) == ["--max-model-len", "4096", '--json={"a": "b c"}']


def test_the_agent_it_fetches_is_in_the_assembly_and_holds_no_bytecode(
    fleet: Template, assembly: Path
) -> None:
    """The object's key in the user data and the asset list is one and the same."""
    assets: Any = json.loads((assembly / "SpotFailoverFleet-default.assets.json").read_text())["files"]
    (key,) = [line for line in user_data(fleet).splitlines() if line.startswith("AGENT_KEY=")]
    (asset,) = [
        asset
        for asset in assets.values()
        if any(f"AGENT_KEY='{d['objectKey']}'" == key for d in asset["destinations"].values())
    ]
    assert asset["source"]["packaging"] == "zip"
    folder = assembly / asset["source"]["path"]
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"__init__.py", "system/spot-failover-agent.service", "system/spot-failover-node"} <= names
    assert not [name for name in names if name.endswith(".pyc")]
