"""The node's request to be replaced: asked once, until the group has it, and in nobody's way."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import outbox
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.unhealthy import ReplacementRequest
from tests.unit.node.reporting_node import INSTANCE_ID, settings


@pytest.fixture
def request_(aws: Any, monkeypatch: pytest.MonkeyPatch) -> ReplacementRequest:
    monkeypatch.setenv("PATH", str(aws.directory), prepend=":")
    monkeypatch.setattr(outbox, "FIRST_PAUSE_SECONDS", 0.02)
    return ReplacementRequest(settings(), instance_id=lambda: INSTANCE_ID, log=Log(stream=io.StringIO()))


def test_a_node_that_is_well_asks_for_nothing(request_: ReplacementRequest, aws: Any) -> None:
    request_.close(grace_seconds=1)
    assert (request_.view["result"], aws.calls) == ("not_asked", [])


def test_it_is_asked_once_past_the_grace_period_with_the_first_reason(
    request_: ReplacementRequest, aws: Any, kit: Any
) -> None:
    request_.ask("the GPU is lost")
    request_.ask("another reason")
    kit.eventually(lambda: request_.view["result"] == "asked")
    request_.ask("a third")
    request_.close(grace_seconds=1)
    assert aws.calls == [
        f"--region eu-west-1 autoscaling set-instance-health --instance-id {INSTANCE_ID}"
        " --health-status Unhealthy --no-should-respect-grace-period"
    ]
    assert (request_.view["reason"], request_.view["tries"]) == ("the GPU is lost", 1)
    assert request_.view["asked_at"] is not None


def test_a_refusal_is_tried_again_and_shown(request_: ReplacementRequest, aws: Any, kit: Any) -> None:
    aws.behaves('[ "$n" -ge 4 ] || { echo "AccessDenied: not yours" >&2; sleep 0.05; exit 254; }')
    request_.ask("the engine is gone")
    kit.eventually(lambda: request_.view["error"] == "AccessDenied: not yours")
    kit.eventually(lambda: request_.view["result"] == "asked")
    assert (request_.view["tries"], request_.view["error"]) == (4, "")


@pytest.mark.parametrize(
    "error",
    [
        "An error occurred (ValidationError): Instance Id not found - No managed instance found for instance",
        "The instance i-1 is not part of Auto Scaling group g.",
    ],
)
def test_an_instance_of_no_group_is_let_be(
    request_: ReplacementRequest, aws: Any, kit: Any, error: str
) -> None:
    aws.behaves(f'echo "{error}" >&2; exit 254')
    request_.ask("the engine is gone")
    kit.eventually(lambda: request_.view["result"] == "not_in_group")
    request_.close(grace_seconds=1)
    assert len(aws.calls) == 1


def test_asking_and_ending_wait_for_nobody(request_: ReplacementRequest, aws: Any) -> None:
    aws.behaves("exec sleep 30")
    began = time.monotonic()
    request_.ask("the engine is gone")
    assert time.monotonic() - began < 0.2
    time.sleep(0.1)
    request_.close(grace_seconds=0.3)
    assert time.monotonic() - began < 1
    assert request_.view["result"] == "asking"
