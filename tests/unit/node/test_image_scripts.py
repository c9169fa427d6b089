"""The machine image's component: its document by AWSTOE's rules, and its steps played in a folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.node.image_machine import BOOTSTRAP, CONTAINER, SCRIPTS, Machine, steps

DOCUMENT = BOOTSTRAP / "image" / "component.yaml"
# What a component may hold (Image Builder user guide, "Document schema and definitions").
STEP_KEYS = {"name", "action", "timeoutSeconds", "onFailure", "maxAttempts", "inputs"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    return loaded


def test_the_document_has_the_schemas_fields_and_fits_image_builders_limit(document: dict[str, Any]) -> None:
    assert set(document) == {"name", "description", "schemaVersion", "parameters", "phases"}
    assert document["schemaVersion"] == 1.0
    assert [phase["name"] for phase in document["phases"]] == ["build", "validate", "test"]
    assert len(DOCUMENT.read_text(encoding="utf-8")) <= 16_000


def test_every_step_is_bounded_and_ends_the_build_where_it_fails(document: dict[str, Any]) -> None:
    for phase in document["phases"]:
        names = [step["name"] for step in phase["steps"]]
        assert len(set(names)) == len(names)
    for _, step in steps(document):
        assert set(step) == STEP_KEYS
        assert step["action"] == "ExecuteBash"
        assert step["onFailure"] == "Abort"
        assert 0 < step["timeoutSeconds"] <= 7200
        for command in step["inputs"]["commands"]:
            assert command.startswith("set -euo pipefail\n")


def test_the_document_uses_every_parameter_that_it_declares_and_no_other(document: dict[str, Any]) -> None:
    declared = {name for parameter in document["parameters"] for name in parameter}
    for parameter in document["parameters"]:
        for given in parameter.values():
            assert given["type"] == "string"
            assert given["description"]
    text = DOCUMENT.read_text(encoding="utf-8")
    assert set(re.findall(r"\{\{ *(\w+) *\}\}", text)) == declared


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    scripts = [str(BOOTSTRAP / script) for script in SCRIPTS if script.endswith(".sh")]
    command = [str(Path(sys.executable).parent / "shellcheck"), *scripts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# The agent's preparation by its contract, with or without an S3 that answers.
PREPARATION = """
from dataclasses import dataclass
from pathlib import Path

@dataclass
class Prepared:
    model: str

class Preparation:
    def __init__(self, settings, *, boot, log):
        self._settings = settings

    def run(self):
        if not {comes}:
            return Prepared(self._settings.model)
        assert self._settings.weights_uri == "s3://models/tiny"
        folder = Path(self._settings.container_cache, "weights", "tiny")
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_text("weights")
        return Prepared("/weights")
"""


def with_preparation(machine: Machine, tmp_path: Path, *, comes: bool) -> None:
    machine.parameters["WeightsUri"] = "s3://models/tiny"
    with zipfile.ZipFile(tmp_path / "agent.zip") as before:
        files = {name: before.read(name) for name in before.namelist()}
    files["preparation.py"] = PREPARATION.format(comes=comes).encode()
    with zipfile.ZipFile(tmp_path / "agent.zip", "w") as after:
        for name, content in files.items():
            after.writestr(name, content)


@pytest.fixture
def machine(tmp_path: Path, document: dict[str, Any]) -> Machine:
    return Machine(tmp_path, document)


@pytest.fixture
def baked(machine: Machine) -> Machine:
    done = machine.play("build")
    assert done.returncode == 0, done.stderr
    return machine


def test_a_build_leaves_the_container_and_the_agent_under_the_key_that_user_data_compares(
    baked: Machine,
) -> None:
    home = baked.root / "opt/spot-failover"
    assert (home / "agent.key").read_text() == "agent.zip\n"
    assert (home / "node_agent/cli.py").is_file()
    assert not (home / "agent.zip").exists()
    assert f"docker pull --quiet {CONTAINER}" in baked.calls.read_text()


def test_a_registry_that_fails_once_costs_a_retry_and_not_the_build(machine: Machine, tmp_path: Path) -> None:
    machine.command(
        "docker", f'[ "$1" != pull ] || [ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; exit 1; }}'
    )
    done = machine.play("build")
    assert done.returncode == 0
    assert "(try 1 of 5)" in done.stderr


def test_a_registry_that_stays_away_fails_the_build(machine: Machine) -> None:
    machine.command("docker", '[ "$1" != pull ]')
    assert machine.play("build").returncode != 0


def test_weights_come_by_the_agents_own_preparation_into_the_nodes_cache(
    machine: Machine, tmp_path: Path
) -> None:
    with_preparation(machine, tmp_path, comes=True)
    done = machine.play("build")
    assert done.returncode == 0, done.stderr
    assert (machine.root / "var/lib/spot-failover/cache/weights/tiny/model.safetensors").is_file()


def test_weights_that_do_not_come_fail_the_build_and_do_not_become_the_hubs(
    machine: Machine, tmp_path: Path
) -> None:
    with_preparation(machine, tmp_path, comes=False)
    done = machine.play("build")
    assert done.returncode != 0
    assert "s3://models/tiny did not come" in done.stderr


def test_compile_caches_that_nodes_have_stored_lie_in_the_image(machine: Machine) -> None:
    machine.parameters["CompileCacheUri"] = "s3://artifacts/compile-cache"
    machine.command(
        "aws",
        f'case "$*" in *--recursive*) mkdir -p "${{@: -1}}"; echo packed > "${{@: -1}}/0123.tar.gz" ;;'
        f' *) cp "{machine.root.parent}/$(basename "${{@: -2:1}}")" "${{@: -1}}" ;; esac',
    )
    assert machine.play("build").returncode == 0
    done = machine.play("test")
    assert done.returncode == 0, done.stderr
    assert "compile caches of s3://artifacts/compile-cache are in the image" in done.stdout


def test_compile_caches_that_are_asked_for_and_missing_fail_the_image(baked: Machine) -> None:
    baked.parameters["CompileCacheUri"] = "s3://artifacts/compile-cache"
    done = baked.play("test")
    assert done.returncode != 0
    assert "no compile cache of s3://artifacts/compile-cache" in done.stderr


def test_weights_that_are_asked_for_and_missing_fail_the_image(baked: Machine) -> None:
    baked.parameters["WeightsUri"] = "s3://models/tiny"
    done = baked.play("test")
    assert done.returncode != 0
    assert "no weights of s3://models/tiny" in done.stderr


def test_what_was_built_passes_on_the_builder_and_on_a_fresh_instance(baked: Machine) -> None:
    for phase in ("validate", "test"):
        done = baked.play(phase)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("spot-failover: ok: ") == 6


@pytest.mark.parametrize(
    ("pulled", "version", "said"),
    [(False, "0.32.0", f"no container image {CONTAINER}"), (True, "0.31.0", "its tag says 0.32.0")],
)
def test_a_container_that_is_missing_or_another_fails_the_image(
    baked: Machine, pulled: bool, version: str, said: str
) -> None:
    baked.docker(pulled=pulled, version=version)
    done = baked.play("test")
    assert done.returncode != 0
    assert said in done.stderr


def test_a_disk_without_room_for_the_container_is_named_before_anything_is_pulled(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    machine = Machine(tmp_path, document)
    machine.free_disk(gigabytes=41)
    done = machine.play("build")
    assert done.returncode != 0
    assert "41 GB are free and the container takes 42; raise image.volume_gib in cdk.json" in done.stderr
    assert "docker" not in machine.calls.read_text()


def test_the_engine_is_tried_out_as_confined_as_on_a_node(baked: Machine) -> None:
    assert baked.play("test").returncode == 0
    runs = [line for line in baked.calls.read_text().splitlines() if line.startswith("docker run ")]
    assert len(runs) == 2
    for run in runs:
        for option in (
            "--user 2000:0",
            "--cap-drop ALL",
            "--read-only",
            "--network none",
            "no-new-privileges",
        ):
            assert option in run


def test_an_engine_that_cannot_start_confined_fails_the_image(baked: Machine) -> None:
    baked.command(
        "docker", 'case "$1" in image) echo sha256:1 ;; *) echo "read-only file system" >&2; exit 1 ;; esac'
    )
    done = baked.play("test")
    assert done.returncode != 0
    assert "confined as on a node, the engine does not import" in done.stderr


@pytest.mark.parametrize("left", ["root/.aws/credentials", "home/ec2-user/.docker/config.json"])
def test_credentials_that_are_left_fail_the_image(baked: Machine, left: str) -> None:
    (baked.root / left).parent.mkdir(parents=True)
    (baked.root / left).write_text("secret")
    done = baked.play("test")
    assert done.returncode != 0
    assert "credentials are left" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_an_agent_of_another_version_fails_the_image(baked: Machine) -> None:
    (baked.root / "opt/spot-failover/agent.key").write_text("another.zip\n")
    done = baked.play("test")
    assert done.returncode != 0
    assert "does not hold the agent agent.zip" in done.stderr


def test_an_agent_that_does_not_start_fails_the_image_with_its_last_words(baked: Machine) -> None:
    (baked.root / "opt/spot-failover/node_agent/agent.py").write_text(
        "raise RuntimeError('broken on purpose')\n"
    )
    done = baked.play("test")
    assert done.returncode != 0
    assert "broken on purpose" in done.stderr


def test_a_unit_that_systemd_does_not_accept_fails_the_image(baked: Machine) -> None:
    unit = baked.root / "opt/spot-failover/node_agent/system/spot-failover-agent.service"
    unit.write_text(unit.read_text().replace("ExecStart=", "ExecStart=relative/"))
    if shutil.which("systemd-analyze") is None:
        baked.command("systemd-analyze", "exit 1")
    done = baked.play("test")
    assert done.returncode != 0
    assert "systemd does not accept" in done.stderr


def test_a_validated_machine_holds_no_scripts_settings_or_credentials(baked: Machine) -> None:
    (baked.root / "root/.docker").mkdir()
    (baked.root / "opt/spot-failover-image").mkdir()
    assert baked.play("validate").returncode == 0
    for gone in ("root/.docker", "etc/spot-failover", "opt/spot-failover-image"):
        assert not (baked.root / gone).exists()
    assert (baked.root / "opt/spot-failover/agent.key").exists()
