"""Command documents: what their parameters admit, and what a node runs."""

from __future__ import annotations

from typing import Any

import pytest

from local_aws.run_command.documents import (
    InvalidParametersError,
    UnsupportedDocumentError,
    linux_steps,
    resolve_parameters,
)
from local_aws.run_command.invocations import Status, overall
from local_aws.run_command.public_documents import PUBLIC_DOCUMENTS


def document(parameters: dict[str, Any], **step: Any) -> dict[str, Any]:
    inputs = {"runCommand": ["echo '{{ Word }}'"], "timeoutSeconds": "60"}
    made = {"action": "aws:runShellScript", "name": "say", "inputs": inputs, **step}
    return {"schemaVersion": "2.2", "parameters": parameters, "mainSteps": [made]}


WORD = {"Word": {"type": "String", "allowedPattern": "^[a-z]+$"}}


@pytest.mark.parametrize(
    "given",
    [{}, {"Word": ["UPPER"]}, {"Word": ["a b"]}, {"Word": ["a", "b"]}, {"Word": ["ok"], "More": ["x"]}],
)
def test_parameters_that_do_not_fit_are_refused(given: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidParametersError):
        resolve_parameters(document(WORD), given)


def test_parameters_take_their_place_in_the_script() -> None:
    made = document(WORD)
    (step,) = linux_steps(made, resolve_parameters(made, {"Word": ["hello"]}))
    assert (step.script, step.timeout_seconds) == ("echo 'hello'\n", 60.0)


def test_a_list_of_commands_is_the_script() -> None:
    made = document({"commands": {"type": "StringList"}}, inputs={"runCommand": "{{ commands }}"})
    (step,) = linux_steps(made, resolve_parameters(made, {"commands": ["one", "two"]}))
    assert step.script == "one\ntwo\n"


def test_steps_for_other_platforms_are_left_out() -> None:
    made = document(WORD, precondition={"StringEquals": ["platformType", "Windows"]})
    assert linux_steps(made, {"Word": "x"}) == []


@pytest.mark.parametrize(
    "made",
    [
        document(WORD) | {"schemaVersion": "1.2"},
        document(WORD, action="aws:downloadContent"),
        document(WORD, inputs={"runCommand": ["echo {{ ssm:secret }}"]}),
        document({"Word": {"type": "String", "interpolationType": "ENV_VAR"}}),
    ],
)
def test_what_is_not_emulated_is_an_error(made: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedDocumentError):
        linux_steps(made, {"Word": "x"})


@pytest.mark.parametrize(
    ("statuses", "status"),
    [
        ([Status.PENDING, Status.PENDING], Status.PENDING),
        ([Status.SUCCESS, Status.PENDING], Status.IN_PROGRESS),
        ([Status.SUCCESS, Status.SUCCESS], Status.SUCCESS),
        ([Status.SUCCESS, Status.TIMED_OUT], Status.TIMED_OUT),
        ([Status.CANCELLED, Status.FAILED], Status.FAILED),
    ],
)
def test_command_is_as_good_as_its_worst_invocation(statuses: list[Status], status: Status) -> None:
    assert overall(statuses) is status


def test_shell_script_of_aws_runs_its_commands_line_by_line() -> None:
    made = PUBLIC_DOCUMENTS["AWS-RunShellScript"]
    given = {"commands": ["spot-failover-node status", "journalctl -n 5"], "executionTimeout": ["30"]}
    (step,) = linux_steps(made, resolve_parameters(made, given))
    assert step.script == "spot-failover-node status\njournalctl -n 5\n"
    assert (step.timeout_seconds, step.working_directory) == (30.0, None)
    with pytest.raises(InvalidParametersError):
        resolve_parameters(made, {})
