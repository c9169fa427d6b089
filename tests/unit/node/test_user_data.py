"""From the rendered user data to a running agent, and the files that it installs."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent.env_file import parse_env_file
from gpu_node_bootstrap.user_data import (
    AGENT_DIRECTORY,
    MAX_BYTES,
    UserDataError,
    UserDataSettings,
    render_user_data,
)
from local_aws.engines.commands import engine_command, engine_environment

ENGINE_ARGS = ["--max-model-len", "8192", "--override", '{"a": "b\\"c $HOME `id`"}']


def settings(**changes: Any) -> UserDataSettings:
    known: dict[str, Any] = {
        "fleet": "chat",
        "region": "eu-west-1",
        "asg_name": "spot-failover-chat",
        "lifecycle_hook": "spot-failover-ready",
        "image": "vllm/vllm-openai:v0.32.0",
        "model": "some/model",
        "served_model_name": "model",
        "engine_args": ENGINE_ARGS,
    }
    return UserDataSettings(**{**known, **changes})


def rendered(**changes: Any) -> str:
    return render_user_data(settings(**changes), agent_bucket="assets", agent_key="abc.zip")


class Host:
    """A root directory to boot into, with the commands that a real node would have."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "root"
        self.bin = tmp_path / "host-bin"
        self.calls = tmp_path / "calls"
        self.root.mkdir()
        self.bin.mkdir()
        archive = tmp_path / "agent.zip"
        with zipfile.ZipFile(archive, "w") as agent:
            for path in sorted(AGENT_DIRECTORY.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    agent.write(path, path.relative_to(AGENT_DIRECTORY))
        self.command("aws", f'cp {archive} "${{@: -1}}"')
        self.command("systemctl", "exit 0")

    def command(self, name: str, shell: str) -> None:
        program = self.bin / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> {self.calls}\n{shell}\n')
        program.chmod(0o755)

    def boot(self, script: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SPOT_FAILOVER_ROOT": str(self.root),
        }
        return subprocess.run(
            ["bash", "-s"],
            input=script,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_boot_installs_settings_agent_unit_and_command_and_starts_the_unit(host: Host) -> None:
    done = host.boot(rendered())
    assert done.returncode == 0, done.stderr
    assert host.calls.read_text().splitlines() == [
        "aws s3 cp --only-show-errors --region eu-west-1 s3://assets/abc.zip "
        f"{host.root}/opt/spot-failover/agent.zip",
        "systemctl daemon-reload",
        "systemctl enable --now spot-failover-agent.service",
    ]
    found = parse_env_file((host.root / "etc/spot-failover/node.env").read_text())
    assert found["SPOT_FAILOVER_FLEET"] == "chat"
    assert json.loads(found["SPOT_FAILOVER_ENGINE_ARGS"]) == ENGINE_ARGS
    assert found["SPOT_FAILOVER_SOCKET"] == f"{host.root}/run/spot-failover/agent.sock"
    for directory in ("etc", "usr"):
        for path in (host.root / directory).rglob("*"):
            if path.is_file():
                assert "@ROOT@" not in path.read_text()


def test_a_boot_that_fails_abandons_its_launch_and_says_so(host: Host) -> None:
    host.command("sleep", "exit 0")
    host.command("aws", '[ "$1" = autoscaling ]')
    host.command(
        "curl", 'case "$*" in *api/token*) echo secret ;; *instance-id*) echo i-0123456789abcdef0 ;; esac'
    )
    done = host.boot(rendered())
    assert done.returncode != 0
    assert "the launch is abandoned" in done.stderr
    assert host.calls.read_text().splitlines()[-1] == (
        "aws autoscaling complete-lifecycle-action --region eu-west-1 --lifecycle-action-result ABANDON "
        "--auto-scaling-group-name spot-failover-chat --lifecycle-hook-name spot-failover-ready "
        "--instance-id i-0123456789abcdef0"
    )


def test_the_installed_command_runs_with_the_installed_settings(kit: Any, host: Host) -> None:
    host.boot(rendered())
    command = str(host.root / "usr/local/bin/spot-failover-node")
    environment = {"PATH": f"{Path(kit.AGENT_PYTHON).parent}:{os.environ['PATH']}"}
    done = subprocess.run([command, "status"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"no agent on {host.root}/run/spot-failover/agent.sock" in done.stderr


def test_the_unit_starts_an_agent_that_serves_and_ends_with_it(
    kit: Any, host: Host, imds: Any, aws: Any
) -> None:
    host.boot(rendered())
    port, health = kit.free_port(), kit.free_port()
    engine = engine_command("emulated", host=kit.HOST, port=port, start_seconds=0.1)
    overrides = {
        "ENGINE": "process",
        "ENGINE_COMMAND": json.dumps(engine),
        "SERVED_MODEL_NAME": "tiny",
        "ENGINE_PORT": str(port),
        "HEALTH_HOST": kit.HOST,
        "HEALTH_PORT": str(health),
        "IMDS_ENDPOINT": imds.endpoint,
        "SETTLE_SECONDS": "0",
    }
    lines = [f"SPOT_FAILOVER_{name}={value}" for name, value in overrides.items()]
    (host.root / "etc/spot-failover/local.env").write_text("\n".join(lines))
    unit = (host.root / "etc/systemd/system/spot-failover-agent.service").read_text()
    directives = [line.partition("=") for line in unit.splitlines() if "=" in line]
    files = [value.lstrip("-") for name, _, value in directives if name == "EnvironmentFile"]
    (start,) = [value for name, _, value in directives if name == "ExecStart"]
    environment = {"PATH": f"{aws.directory}:{os.environ['PATH']}", **engine_environment("emulated")}
    for file in files:
        environment.update(parse_env_file(Path(file).read_text()))
    agent = subprocess.Popen(
        [kit.AGENT_PYTHON, *shlex.split(start)], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        node = kit.Node(agent, environment, port, health, Path(os.devnull))
        node.wait_ready()
        kit.eventually(lambda: aws.calls)
        agent.terminate()
        assert agent.wait(timeout=20) == 0
    finally:
        agent.kill()
        agent.wait()


def test_an_asset_that_comes_late_is_fetched_again(host: Host) -> None:
    host.command("sleep", "exit 0")
    archive = host.bin.parent / "agent.zip"
    host.command("aws", f'[ "$(grep -c ^aws {host.calls})" -ge 3 ] || exit 1; cp {archive} "${{@: -1}}"')
    assert host.boot(rendered()).returncode == 0


def test_a_boot_without_its_asset_fails_and_starts_nothing(host: Host) -> None:
    host.command("sleep", "exit 0")
    host.command("aws", "exit 1")
    done = host.boot(rendered())
    assert done.returncode != 0
    assert "try 6 of 6" in done.stderr
    assert "systemctl" not in host.calls.read_text()


def test_cdk_tokens_pass_through_untouched() -> None:
    token = "${Token[AWS.Region.10]}"
    script = render_user_data(settings(region=token), agent_bucket=token, agent_key="k")
    assert f"AGENT_REGION='{token}'" in script
    assert f"AGENT_BUCKET='{token}'" in script
    assert f'SPOT_FAILOVER_REGION="{token}"' in script


def test_user_data_stays_far_below_ec2s_limit() -> None:
    assert len(rendered().encode()) < MAX_BYTES / 4
    with pytest.raises(UserDataError, match="EC2 takes 16384"):
        rendered(engine_args=["x" * MAX_BYTES])


@pytest.mark.parametrize("value", ["a\nSPOT_FAILOVER_ENGINE=process", "a\rb", "a\0b"])
def test_a_value_cannot_smuggle_in_another_line(value: str) -> None:
    with pytest.raises(UserDataError, match="MODEL"):
        rendered(model=value)


def test_a_value_cannot_leave_its_shell_quotes() -> None:
    with pytest.raises(UserDataError, match="agent_key"):
        render_user_data(settings(), agent_bucket="b", agent_key="k'; reboot; '")


def test_the_rendered_script_has_no_shellcheck_finding() -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert shellcheck is not None
    done = subprocess.run([shellcheck, "-"], input=rendered(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_systemd_accepts_the_unit(host: Host) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    host.boot(rendered())
    unit = host.root / "etc/systemd/system/spot-failover-agent.service"
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    about_ours = [line for line in done.stderr.splitlines() if "spot-failover" in line]
    assert about_ours == []


def test_the_units_patience_outlasts_the_agents_longest_drain() -> None:
    unit = parse_env_file((AGENT_DIRECTORY / "system" / "spot-failover-agent.service").read_text())
    from_signal = 110
    assert int(unit["TimeoutStopSec"]) > from_signal
    assert unit["KillMode"] == "mixed"
