"""From the rendered user data to a running agent, and the files that it installs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from spot_failover.envelopes import Event
from track_incident.node_events import NodeBootFailed, parse_node_event

from gpu_node_bootstrap.node_agent.env_file import parse_env_file
from gpu_node_bootstrap.user_data import (
    AGENT_DIRECTORY,
    MAX_BYTES,
    UserDataError,
    UserDataSettings,
    render_user_data,
)
from local_aws.engines.commands import engine_command, engine_environment

REPOSITORY = Path(__file__).resolve().parents[3]
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

    def settings(self) -> dict[str, str]:
        return parse_env_file((self.root / "etc/spot-failover/node.env").read_text())

    def command(self, name: str, shell: str) -> None:
        program = self.bin / name
        program.write_text(f'#!/bin/bash\necho "{name} $*" >> {self.calls}\n{shell}\n')
        program.chmod(0o755)

    def boot(self, script: str, **extra: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SPOT_FAILOVER_ROOT": str(self.root),
            **extra,
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
    found = host.settings()
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
    assert "phase user_data failed with status 1; the launch is abandoned" in done.stderr
    assert host.calls.read_text().splitlines()[-1] == (
        "aws autoscaling complete-lifecycle-action --region eu-west-1 --lifecycle-action-result ABANDON "
        "--auto-scaling-group-name spot-failover-chat --lifecycle-hook-name spot-failover-ready "
        "--instance-id i-0123456789abcdef0"
    )


ABANDONS = "--lifecycle-action-result ABANDON"


def test_a_boot_that_fails_leaves_its_last_words_where_they_outlive_the_machine(host: Host) -> None:
    host.command("sleep", "exit 0")
    host.command("curl", "echo i-0123456789abcdef0")
    # An agent that does not start: user data has come as far as it can.
    host.command("systemctl", '[ "$1" = daemon-reload ]')
    host.command("journalctl", "echo 'SPOT_FAILOVER_PROBE_SECONDS is \"soon\"'")
    output = host.root / "var/log/cloud-init-output.log"
    output.parent.mkdir(parents=True)
    output.write_text("Cloud-init v. 22.2\n")
    fetch = f'[ "$1" != s3 ] || exec cp {host.bin.parent / "agent.zip"} "${{@: -1}}"'
    host.command("aws", f'{fetch}\nprintf "%s\\n" "${{@: -1}}" > {host.bin.parent}/aws-$2')
    done = host.boot(rendered(log_group="/spot-failover/nodes/chat", event_bus="default"))
    assert done.returncode != 0
    calls = [line.split()[:3] for line in host.calls.read_text().splitlines() if line.startswith("aws")]
    assert calls[-4:] == [
        ["aws", "logs", "create-log-stream"],
        ["aws", "logs", "put-log-events"],
        ["aws", "events", "put-events"],
        ["aws", "autoscaling", "complete-lifecycle-action"],
    ]
    (event,) = json.loads((host.bin.parent / "aws-put-log-events").read_text())
    line = json.loads(event["message"])
    assert abs(event["timestamp"] / 1000 - time.time()) < 60
    assert (line["event"], line["phase"], line["boot.failed"]) == ("boot_failed", "user_data", 1)
    assert line["output"] == ["Cloud-init v. 22.2", 'SPOT_FAILOVER_PROBE_SECONDS is "soon"']
    assert line["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": "boot.failed", "Unit": "Count"}]
    (entry,) = json.loads((host.bin.parent / "aws-put-events").read_text())
    assert entry["EventBusName"] == "default"
    told = parse_node_event(
        Event(entry["Source"], entry["DetailType"], datetime.now(UTC), json.loads(entry["Detail"]))
    )
    assert isinstance(told, NodeBootFailed)
    assert (told.instance_id, told.fleet, told.phase) == ("i-0123456789abcdef0", "chat", "user_data")


def test_an_abandonment_that_is_refused_is_tried_again_and_needs_none_of_the_last_words(host: Host) -> None:
    host.command("sleep", "exit 0")
    host.command("curl", 'case "$*" in *instance-id*) echo i-0123456789abcdef0 ;; *) exit 22 ;; esac')
    host.command("aws", "exit 255")
    host.boot(rendered(log_group="/spot-failover/nodes/chat", event_bus="default"))
    assert sum(ABANDONS in line for line in host.calls.read_text().splitlines()) == 3


def test_a_boot_that_stalls_is_ended_and_abandoned(host: Host) -> None:
    host.command("sleep", "exit 0")
    # As coreutils' own ends what takes too long, in the time that a test has.
    host.command("timeout", '[ "$2" = aws ] && [ "$3" = s3 ] && exit 124; shift; exec "$@"')
    host.command("curl", "echo i-0123456789abcdef0")
    host.command("aws", "exit 0")
    done = host.boot(rendered())
    assert done.returncode != 0
    assert "phase user_data failed" in done.stderr
    assert ABANDONS in host.calls.read_text().splitlines()[-1]


def test_every_call_that_leaves_the_machine_or_waits_for_it_has_a_time_limit() -> None:
    for line in rendered().splitlines():
        for call in re.findall(r"\b(?:aws (?:s3|auto|logs|events)|curl -|systemctl (?:daemon|enable))", line):
            before = line.partition(call)[0]
            assert before.rstrip().split()[-2:-1] == ["timeout"] or f"{call}sf -m 5" in line, line


def test_no_package_is_installed_at_boot() -> None:
    assert not re.search(r"\b(yum|dnf|apt|apt-get|rpm|pip3?|snap|npm)\b", rendered())


def test_the_boots_first_phases_are_timed_for_the_agent(host: Host) -> None:
    before = time.time()
    host.boot(rendered())
    times = parse_env_file((host.root / "run/spot-failover-boot.env").read_text())
    started_at = float(times["SPOT_FAILOVER_USER_DATA_STARTED_AT"])
    assert before - 0.01 <= started_at <= time.time()
    up_for = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert float(times["SPOT_FAILOVER_BOOTED_AT"]) == pytest.approx(time.time() - up_for, abs=5)


def test_a_machine_that_knows_when_it_started_is_believed(host: Host) -> None:
    host.boot(rendered(), SPOT_FAILOVER_BOOTED_AT="1700000000.000")
    times = parse_env_file((host.root / "run/spot-failover-boot.env").read_text())
    assert times["SPOT_FAILOVER_BOOTED_AT"] == "1700000000.000"


def test_an_image_with_this_very_agent_spares_its_download(host: Host) -> None:
    host.boot(rendered())
    assert (host.root / "opt/spot-failover/agent.key").read_text() == "abc.zip\n"
    host.calls.unlink()
    assert host.boot(rendered()).returncode == 0
    assert "aws" not in host.calls.read_text()


def test_an_image_with_another_agent_gets_this_one_whole(host: Host) -> None:
    agent = host.root / "opt/spot-failover"
    (agent / "node_agent").mkdir(parents=True)
    (agent / "node_agent/stale.py").touch()
    (agent / "agent.key").write_text("older.zip\n")
    assert host.boot(rendered()).returncode == 0
    assert (agent / "agent.key").read_text() == "abc.zip\n"
    assert not (agent / "node_agent/stale.py").exists()


def test_a_download_that_fails_leaves_no_key_that_a_later_boot_would_believe(host: Host) -> None:
    (host.root / "opt/spot-failover").mkdir(parents=True)
    (host.root / "opt/spot-failover/agent.key").write_text("older.zip\n")
    host.command("sleep", "exit 0")
    host.command("aws", "exit 1")
    assert host.boot(rendered()).returncode != 0
    assert not (host.root / "opt/spot-failover/agent.key").exists()


@pytest.mark.parametrize(
    ("mounted", "baked", "expected"),
    [
        (False, False, "var/lib/spot-failover/cache"),
        (True, False, "opt/dlami/nvme/spot-failover"),
        (True, True, "var/lib/spot-failover/cache"),
    ],
)
def test_large_files_go_to_the_instances_own_disk_unless_the_image_has_them(
    host: Host, mounted: bool, baked: bool, expected: str
) -> None:
    host.command("mountpoint", f'[ "$2" = {host.root}/opt/dlami/nvme ] && exit {int(not mounted)}')
    if baked:
        (host.root / "var/lib/spot-failover/cache/weights").mkdir(parents=True)
    host.boot(rendered())
    assert host.settings()["SPOT_FAILOVER_CONTAINER_CACHE"] == str(host.root / expected)


def test_what_a_fleet_has_beyond_the_least_is_told_and_what_it_has_not_is_left_out() -> None:
    told = {
        "weights_uri": "s3://models/chat",
        "weights_load": "stream",
        "weights_role": "arn:aws:iam::123456789012:role/reader",
        "artifacts_uri": "s3://artifacts/compile-cache",
        "api_key_secret": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key-AbCdEf",
        "log_group": "/spot-failover/chat",
        "event_bus": "default",
    }
    full, least = settings(**told).environment(), settings().environment()
    for name, value in told.items():
        assert full[f"SPOT_FAILOVER_{name.upper()}"] == value
        assert f"SPOT_FAILOVER_{name.upper()}" not in least
        assert f"SPOT_FAILOVER_{name.upper()}" not in settings(**{name: ""}).environment()


def test_the_installed_command_runs_with_the_installed_settings(kit: Any, host: Host) -> None:
    host.boot(rendered())
    command = str(host.root / "usr/local/bin/spot-failover-node")
    environment = {"PATH": f"{Path(kit.AGENT_PYTHON).parent}:{os.environ['PATH']}"}
    done = subprocess.run([command, "status"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"no agent on {host.root}/run/spot-failover/agent.sock" in done.stderr


def test_a_start_has_succeeded_only_once_the_agent_answers(kit: Any, host: Host, make_node: Any) -> None:
    host.boot(rendered())
    unit = (host.root / "etc/systemd/system/spot-failover-agent.service").read_text()
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStartPost=/")]
    command = shlex.split(line.partition("=")[2])
    environment = {"PATH": f"{Path(kit.AGENT_PYTHON).parent}:{os.environ['PATH']}"}
    absent = [*command[:-1], "0.2"]
    done = subprocess.run(absent, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no agent on" in done.stderr
    make_node(SOCKET=host.settings()["SPOT_FAILOVER_SOCKET"])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


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
    size = len(rendered().encode())
    print(f"user data has {size} bytes of {MAX_BYTES}")
    assert size < MAX_BYTES / 2
    with pytest.raises(UserDataError, match="EC2 takes 16384"):
        rendered(engine_args=["x" * MAX_BYTES])


@pytest.mark.parametrize("value", ["a\nSPOT_FAILOVER_ENGINE=process", "a\rb", "a\0b"])
def test_a_value_cannot_smuggle_in_another_line(value: str) -> None:
    with pytest.raises(UserDataError, match="MODEL"):
        rendered(model=value)


def test_a_value_cannot_leave_its_shell_quotes() -> None:
    with pytest.raises(UserDataError, match="agent_key"):
        render_user_data(settings(), agent_bucket="b", agent_key="k'; reboot; '")


CLOUD_INIT = r"""
import sys
from cloudinit.handlers.shell_script import ShellScriptPartHandler
from cloudinit.helpers import Paths
from cloudinit.user_data import UserDataProcessor

paths = Paths({"cloud_dir": sys.argv[1], "run_dir": sys.argv[1]})
handler = ShellScriptPartHandler(paths)
parts = UserDataProcessor(paths).process(sys.stdin.buffer.read()).walk()
for number, part in enumerate(each for each in parts if not each.is_multipart()):
    kind = part.get_content_type()
    print(kind)
    if kind == "text/x-shellscript":
        handler.handle_part(None, kind, f"part-{number}", part.get_payload(decode=True).decode(), None)
"""


def test_cloud_init_takes_it_for_one_script_and_would_run_it_unchanged(tmp_path: Path) -> None:
    unpacked = REPOSITORY / ".cache" / "cloud-init"
    places = [
        unpacked,
        Path("/usr/lib/python3/dist-packages"),
        *Path("/usr/lib").glob("python3*/site-packages"),
    ]
    found = next((place for place in places if (place / "cloudinit").is_dir()), None)
    if found is None:
        pytest.skip("no cloud-init on this machine, and no package of it: see scripts/install-cloud-init")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CLOUD_INIT, str(tmp_path)],
        input=rendered(),
        env={**os.environ, "PYTHONPATH": str(found)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["text/x-shellscript"]
    (script,) = (tmp_path / "instance" / "scripts").iterdir()
    assert script.read_text() == rendered()
    assert os.access(script, os.X_OK)


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
