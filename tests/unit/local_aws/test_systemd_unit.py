"""Units as the local node's systemctl reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from local_aws.nodes.systemd_unit import (
    KillMode,
    Restart,
    UnitError,
    expand_command,
    parse_environment_file,
    parse_seconds,
    parse_unit,
    service_environment,
)

SUPERVISOR = Path(__file__).resolve().parents[3] / "local_aws/nodes/unit_supervisor.py"
INSTALLED = Path(__file__).resolve().parents[3] / "gpu_node_bootstrap/node_agent/system"


def test_the_agents_own_unit_is_understood_whole() -> None:
    # As user data installs it on a real node.
    text = (INSTALLED / "spot-failover-agent.service").read_text().replace("@ROOT@", "")
    unit = parse_unit("agent.service", text)
    assert unit.exec_start[-1] == "run"
    assert unit.kill_mode is KillMode.MIXED
    assert unit.restart is Restart.ON_FAILURE
    assert [file.optional for file in unit.environment_files] == [False, True, True]
    assert unit.exec_start_post == (
        ("/bin/rm", "-f", "/run/spot-failover-boot.env"),
        ("/usr/local/bin/spot-failover-node", "wait", "--seconds", "60"),
    )
    assert unit.timeout_stop_seconds > 120


@pytest.mark.parametrize(
    "line",
    ["Slice=x.slice", "Type=notify", "ExecStart=/bin/echo %i", "Restart=on-abort", "ExecReload=/bin/true"],
)
def test_what_is_not_emulated_is_an_error(line: str) -> None:
    start = "" if line.startswith("ExecStart") else "ExecStart=/bin/true\n"
    with pytest.raises((UnitError, ValueError)):
        parse_unit("x.service", f"[Service]\n{start}{line}\n")


def test_a_command_after_the_start_runs_while_the_service_does(tmp_path: Path) -> None:
    unit = tmp_path / "etc/systemd/system/x.service"
    unit.parent.mkdir(parents=True)
    shell = "until [ -e started ]; do sleep 0.02; done"
    unit.write_text(f"[Service]\nExecStart=/bin/sh -c '{shell}'\nExecStartPost=-/usr/bin/touch started\n")
    command = [sys.executable, str(SUPERVISOR), str(tmp_path), "x.service"]
    assert subprocess.run(command, timeout=20, check=False).returncode == 0


def test_later_files_win_and_missing_ones_must_be_optional(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/a.env").write_text('A="one"\nB=two\n')
    (tmp_path / "etc/b.env").write_text("B='three four'\n# C=no\n")
    text = "[Service]\nExecStart=/bin/true\nEnvironmentFile=/etc/a.env\nEnvironmentFile=-/etc/b.env\n"
    unit = parse_unit("x.service", text + "EnvironmentFile=-/etc/none.env\n")
    environment = service_environment(unit, tmp_path, {"A": "zero", "PATH": "/bin"})
    assert environment == {"A": "one", "B": "three four", "PATH": "/bin"}
    broken = parse_unit("x.service", text + "EnvironmentFile=/etc/none.env\n")
    with pytest.raises(UnitError, match=r"none\.env"):
        service_environment(broken, tmp_path, {})


def test_json_settings_survive_the_quotes() -> None:
    assert parse_environment_file('X="[\\"a\\", \\"b\\"]"')["X"] == '["a", "b"]'


def test_command_is_found_under_the_root_and_its_variables_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/tool").touch()
    command = ("/usr/bin/tool", "$MANY", "${ONE}", "/usr/bin/other")
    assert expand_command(command, tmp_path, {"MANY": "a b", "ONE": "c d"}) == [
        str(tmp_path / "usr/bin/tool"),
        "a",
        "b",
        "c d",
        "/usr/bin/other",
    ]


def test_time_spans() -> None:
    assert [parse_seconds(text) for text in ("5", "500ms", "1min 30s")] == [5.0, 0.5, 90.0]
    with pytest.raises(UnitError):
        parse_seconds("soon")
