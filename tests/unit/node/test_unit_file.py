"""The agent's unit, as systemd itself judges it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from gpu_node_bootstrap.node_agent.container_user import CONTAINER_NAME
from gpu_node_bootstrap.user_data import AGENT_DIRECTORY

NAME = "spot-failover-agent.service"
UNIT = AGENT_DIRECTORY / "system" / NAME


def verified(folder: Path, unit: str) -> subprocess.CompletedProcess[str]:
    """Have systemd judge a unit that is installed under a root directory of its own."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    command = folder / "usr/local/bin/spot-failover-node"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    installed = folder / NAME
    installed.write_text(unit.replace("@ROOT@", str(folder)))
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(installed)], capture_output=True, text=True, check=False
    )


def test_systemd_finds_nothing_to_say_of_the_unit(tmp_path: Path) -> None:
    judged = verified(tmp_path, UNIT.read_text())
    # What it says of other units of this machine names those.
    assert [line for line in judged.stderr.splitlines() if NAME in line] == []
    assert judged.returncode == 0, judged.stderr


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Restart=on-failure", "Restart=sometimes"),
        ("KillMode=mixed", "KilMode=mixed"),
        ("spot-failover-node run", "no-such-program run"),
    ],
)
def test_systemd_would_say_so_of_a_unit_that_is_wrong(tmp_path: Path, right: str, wrong: str) -> None:
    unit = UNIT.read_text()
    assert right in unit
    assert NAME in verified(tmp_path, unit.replace(right, wrong)).stderr


def test_no_container_outlives_the_agent_however_it_ended() -> None:
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecStopPost=")]
    assert line.startswith("ExecStopPost=-/")
    assert f"docker rm --force {CONTAINER_NAME}'" in line


def test_what_the_agent_needs_of_the_machine_is_not_hardened_away() -> None:
    settings = {line.partition("=")[0] for line in UNIT.read_text().splitlines() if "=" in line}
    closes_devices = {"PrivateDevices", "ProtectClock", "DevicePolicy", "DeviceAllow"}
    closes_kernel_log = {"ProtectKernelLogs", "CapabilityBoundingSet"}
    assert not settings & (closes_devices | closes_kernel_log)
