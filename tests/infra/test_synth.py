"""`cdk synth` with the real command line: no AWS, no Docker, and errors that an operator can read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.templates import REPOSITORY

CDK = REPOSITORY / "node_modules" / ".bin" / "cdk"


def synth(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Synthesize without credentials, with an AWS that refuses connections and a Docker that fails."""
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(f"#!/bin/sh\ntouch '{tmp_path}/docker-was-called'\nexit 1\n")
    docker.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    environment |= {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "CDK_VALIDATION": "false",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",
    }
    command = [str(CDK), "synth", "--quiet", "--no-notices", "--output", str(tmp_path / "cdk.out")]
    command += ["--app", f"{sys.executable} app.py", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment, timeout=120
    )


def test_the_repositorys_own_configuration_needs_no_aws_access_and_no_docker(tmp_path: Path) -> None:
    done = synth(tmp_path)
    assert done.returncode == 0, done.stderr
    stacks = {
        path.name.removesuffix(".template.json") for path in (tmp_path / "cdk.out").glob("*.template.json")
    }
    assert stacks == {"SpotFailoverControlPlane", "SpotFailoverFleet-default"}
    assert not (tmp_path / "docker-was-called").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--context", 'fleets=[{"name": "chat", "modle": "x"}]'],
            'spot-failover: fleets[0] (chat): unknown key "modle"; did you mean "model"?',
        ),
        (
            ["--context", 'fleets=[{"name": "chat"}, {"name": "chat"}]'],
            'spot-failover: fleets[0] and fleets[1] are both named "chat"; allowed: each name once.',
        ),
    ],
)
def test_a_wrong_configuration_stops_with_one_sentence_and_no_traceback(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = synth(tmp_path, *arguments)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert sentence in said
    assert "Traceback" not in said
    assert not list((tmp_path / "cdk.out").glob("*.template.json"))


def test_a_fleet_comes_after_the_control_plane_and_goes_before_it(assembly: Path) -> None:
    stacks = json.loads((assembly / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    for name in ("default", "existing", "public"):
        assert "SpotFailoverControlPlane" in stacks[f"SpotFailoverFleet-{name}"]["dependencies"]
