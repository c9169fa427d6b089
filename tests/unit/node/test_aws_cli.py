"""Calls of the AWS command line: an answer, or an error that says in a few lines what AWS said."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_node_bootstrap.node_agent.aws_cli import ERROR_CHARACTERS
from gpu_node_bootstrap.node_agent.aws_cli import aws as call
from gpu_node_bootstrap.node_agent.errors import AwsCliError


@pytest.fixture(autouse=True)
def _on_path(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(aws.directory), prepend=":")


def test_what_it_prints_is_the_answer_and_the_region_is_always_named(aws: Any) -> None:
    aws.behaves('echo "hello  "')
    assert call("sts", "get-caller-identity", region="eu-west-1", timeout_seconds=5) == "hello  \n"
    assert aws.calls == ["--region eu-west-1 sts get-caller-identity"]


def test_input_goes_in_by_stdin_and_without_any_stdin_is_empty(aws: Any) -> None:
    aws.behaves("cat")
    long = "x" * 300_000
    assert call("a", region="r", timeout_seconds=5, input_text=long) == long
    assert call("a", region="r", timeout_seconds=5) == ""


def test_a_refusal_is_told_by_its_first_lines(aws: Any) -> None:
    aws.behaves('printf "\\n\\nAn error occurred (AccessDenied)\\n b\\nc\\nd\\n" >&2; exit 254')
    with pytest.raises(AwsCliError) as caught:
        call("a", region="r", timeout_seconds=5)
    assert str(caught.value) == "An error occurred (AccessDenied)\nb\nc"


def test_a_long_complaint_is_cut(aws: Any) -> None:
    aws.behaves("printf 'x%.0s' {1..2000} >&2; exit 1")
    with pytest.raises(AwsCliError) as caught:
        call("a", region="r", timeout_seconds=5)
    assert len(str(caught.value)) == ERROR_CHARACTERS


def test_a_failure_without_a_word_is_told_by_its_status(aws: Any) -> None:
    aws.behaves("exit 7")
    with pytest.raises(AwsCliError, match="aws ended with 7"):
        call("a", region="r", timeout_seconds=5)


def test_one_that_hangs_or_is_missing_is_an_error_too(aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.behaves("exec sleep 30")
    with pytest.raises(AwsCliError, match="timed out"):
        call("a", region="r", timeout_seconds=0.2)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AwsCliError, match="aws"):
        call("a", region="r", timeout_seconds=5)
