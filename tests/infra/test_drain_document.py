"""The drain document: what it accepts, what it runs, and when it gives up."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.infra.templates import Template

DEADLINES = "i-0123456789abcdef0@2026-11-23T13:40:00Z,i-0abcdef0@2026-11-23T13:40:07.250Z"


@pytest.fixture(scope="module")
def content(control_plane: Template) -> Any:
    document = control_plane.only("AWS::SSM::Document")
    assert document["Name"] == "SpotFailover-DrainNode"
    # A document of this name that is replaced instead of updated could not be created: the name is taken.
    assert document["UpdateMethod"] == "NewVersion"
    return document["Content"]


def accepts(content: Any, value: str) -> bool:
    return re.search(content["parameters"]["Deadlines"]["allowedPattern"], value) is not None


def run(content: Any, deadlines: str, path: str) -> subprocess.CompletedProcess[str]:
    """Run the commands as the Systems Manager agent does: the parameter pasted in, one script for /bin/sh."""
    script = "\n".join(content["mainSteps"][0]["inputs"]["runCommand"]).replace("{{ Deadlines }}", deadlines)
    return subprocess.run(
        ["/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path},
    )


def test_it_is_a_shell_script_for_linux_nodes_of_schema_2_2(content: Any) -> None:
    assert content["schemaVersion"] == "2.2"
    (step,) = content["mainSteps"]
    assert step["action"] == "aws:runShellScript"


def test_run_command_lets_a_drain_last_as_long_as_the_notice_and_no_longer(content: Any) -> None:
    assert content["mainSteps"][0]["inputs"]["timeoutSeconds"] == "120"


def test_it_takes_the_deadlines_of_a_whole_command(content: Any) -> None:
    fifty = ",".join(f"i-{n:017x}@2026-11-23T13:40:{n:02d}Z" for n in range(50))
    assert accepts(content, DEADLINES)
    assert accepts(content, fifty)
    assert not accepts(content, f"{fifty},i-0123456789abcdef0@2026-11-23T13:40:00Z")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "i-0123456789abcdef0",
        "i-0123456789abcdef0@soon",
        "i-0123456789abcdef0@2026-11-23T13:40:00+00:00",
        "i-0123456789abcdef0@2026-11-23T13:40:00Z'; reboot; '",
        "i-0123456789abcdef0@2026-11-23T13:40:00Z$(reboot)",
        "$(reboot)i-0123456789abcdef0@2026-11-23T13:40:00Z",
        "i-0123456789abcdef0@2026-11-23T13:40:00Z,",
        "mi-0123456789abcdef0@2026-11-23T13:40:00Z",
    ],
)
def test_it_takes_nothing_else_least_of_all_a_shell_word(content: Any, value: str) -> None:
    assert not accepts(content, value)


def test_it_hands_the_deadlines_to_the_agent_and_returns_the_agents_answer(
    content: Any, tmp_path: Path
) -> None:
    command = tmp_path / "spot-failover-node"
    command.write_text('#!/bin/sh\necho "$#|$1|$2|$3"\nexit 3\n')
    command.chmod(0o755)
    done = run(content, DEADLINES, f"{tmp_path}:{os.environ['PATH']}")
    assert done.stdout == f"3|drain|--deadlines|{DEADLINES}\n"
    assert done.returncode == 3


def test_a_node_without_the_agent_fails_and_says_why(content: Any, tmp_path: Path) -> None:
    done = run(content, DEADLINES, str(tmp_path))
    assert done.returncode == 127
    assert done.stderr == "spot-failover-node is not installed on this node: it cannot be drained\n"
