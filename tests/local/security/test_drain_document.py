"""The deployed drain document can be made to run a drain and nothing else.

Two guards: Systems Manager holds the parameter to `allowedPattern`, and the script keeps it within quotes.
The first is tried through the API; the second by running the script, as the agent does, with what passes.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.faults.plane import Plane
from tests.local.security.outside import DRAIN_DOCUMENT, Things

NODE = "i-0123456789abcdef0"
VALID = f"{NODE}@2026-11-23T13:40:00Z"
WORDS = (
    "; touch canary",
    "' ; touch canary ; '",
    '" ; touch canary ; "',
    "$(touch canary)",
    "`touch canary`",
    "\ntouch canary\n",
    "\r\ntouch canary",
    "| touch canary",
    "& touch canary &",
    "> canary",
    "' > canary '",
    "\\'; touch canary",
    "${IFS}touch${IFS}canary",
    "'$IFS;touch canary'",
    "\x00touch canary",
    "\u2028touch canary",
    "\u0660",  # a digit to some engines
    "--help",
    "' --deadlines-file=/etc/passwd '",
    "{{ ssm:/a/secret }}",
    "{{ Deadlines }}",
    "PATH=/tmp",
    "\\",
    "%0atouch canary",
    "\x85touch canary",
)
CHARACTERS = "0123456789abcdefiZT:@.,-\n\r '\"\\;$`&|><(){}*?~#!\t\u0660"
PLACES: dict[str, Callable[[str], str]] = {
    "after": lambda word: VALID + word,
    "before": lambda word: word + VALID,
    "between": lambda word: f"{VALID},{word}{VALID}",
    "in the id": lambda word: f"i-0123{word}4567@2026-11-23T13:40:00Z",
    "in the time": lambda word: f"{NODE}@2026-11-23T13:40:00{word}Z",
    "alone": lambda word: word,
}


@pytest.fixture(scope="module")
def content(plane: Plane) -> dict[str, Any]:
    """Return the document as it was deployed."""
    answer = plane.aws.client("ssm").get_document(Name=DRAIN_DOCUMENT)
    document: dict[str, Any] = json.loads(answer["Content"])
    return document


@pytest.mark.parametrize("place", PLACES)
def test_no_injection_gets_past_the_parameters_pattern(plane: Plane, things: Things, place: str) -> None:
    client = plane.aws.client("ssm")
    for word in WORDS:
        value = PLACES[place](word)
        with pytest.raises(ClientError) as refused:
            client.send_command(
                DocumentName=DRAIN_DOCUMENT, InstanceIds=[things.node], Parameters={"Deadlines": [value]}
            )
        assert refused.value.response["Error"]["Code"] == "InvalidParameters", ascii(value)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"Deadlines": [VALID], "commands": ["touch canary"]},
        {"Deadlines": [VALID, "x; touch canary"]},
        {"Deadlines": [VALID], "workingDirectory": ["/tmp"]},
        {"commands": ["touch canary"]},
    ],
    ids=["none", "one more", "two values", "a directory", "another"],
)
def test_no_other_parameter_is_taken(plane: Plane, things: Things, parameters: dict[str, list[str]]) -> None:
    with pytest.raises(ClientError) as refused:
        plane.aws.client("ssm").send_command(
            DocumentName=DRAIN_DOCUMENT, InstanceIds=[things.node], Parameters=parameters
        )
    assert refused.value.response["Error"]["Code"] == "InvalidParameters"


def run(script: str, folder: Path, shell: list[str]) -> list[list[str]]:
    """Run a script where the only command is the agent's; return how the agent was called."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    calls = folder / "calls"
    agent = tools / "spot-failover-node"
    agent.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >> "$CALLS"\nprintf "\\0" >> "$CALLS"\n')
    agent.chmod(0o755)
    calls.write_bytes(b"")
    environment = {"PATH": f"{tools}:/usr/bin:/bin", "CALLS": str(calls), "ENV": "", "IFS": "/"}
    subprocess.run([*shell, script], cwd=folder, env=environment, capture_output=True, check=False)
    ended = calls.read_bytes().decode().removesuffix("\0\0").split("\0\0")
    return [call.split("\0") for call in ended]


SHELLS = {"sh": ["/bin/sh", "-c"], "bash in POSIX mode": ["bash", "--posix", "-c"]}


@pytest.mark.parametrize("shell", SHELLS)
def test_whatever_the_pattern_lets_pass_is_one_argument_of_one_drain(
    content: dict[str, Any], tmp_path: Path, shell: str
) -> None:
    """Also under an engine in which `$` matches before a last newline, as Java's and Python's does."""
    pattern = re.compile(content["parameters"]["Deadlines"]["allowedPattern"])
    chosen = random.Random(4711)
    passing = [VALID, f"{VALID},{VALID}", f"{NODE}@2026-11-23T13:40:00.123456Z", VALID + "\n"]
    tried = [mutated(chosen) for _ in range(8_000)] + [
        place(word) for place in PLACES.values() for word in WORDS
    ]
    passing += sorted({value for value in tried if pattern.search(value) and "\0" not in value})
    for value in passing:
        script = "\n".join(content["mainSteps"][0]["inputs"]["runCommand"]).replace("{{ Deadlines }}", value)
        assert run(script, tmp_path, SHELLS[shell]) == [["drain", "--deadlines", value]], ascii(value)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "calls"], "something else ran"


def test_the_watch_on_the_script_sees_an_injection(tmp_path: Path) -> None:
    """The check above can fail: without its quotes, or with a pattern that lets quotes pass, it would."""
    script = "exec spot-failover-node drain --deadlines 'x'; touch canary; ''"
    run(script.replace("exec ", ""), tmp_path, SHELLS["sh"])
    assert (tmp_path / "canary").exists()


def mutated(chosen: random.Random) -> str:
    """Return a valid value with a few characters changed, dropped or added."""
    text = list(chosen.choice([VALID, f"{VALID},{VALID}", f"{NODE}@2026-11-23T13:40:00.5Z"]))
    for _ in range(chosen.randint(1, 3)):
        place = chosen.randrange(len(text))
        character = chosen.choice(CHARACTERS)
        kind = chosen.randrange(3)
        text[place : place + (kind != 2)] = [] if kind == 0 and len(text) > 1 else [character]
    return "".join(text)


def test_the_document_runs_one_step_and_takes_no_other_document_in(content: dict[str, Any]) -> None:
    (step,) = content["mainSteps"]
    assert step["action"] == "aws:runShellScript"
    assert set(content["parameters"]) == {"Deadlines"}
    assert len(step["inputs"]["runCommand"]) == 2
    text = "\n".join(step["inputs"]["runCommand"])
    assert text.count("{{") == text.count("'{{ Deadlines }}'") == 1
