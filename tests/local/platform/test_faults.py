"""Faults on purpose."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from local_aws.control_client import ControlError

EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}


@pytest.fixture(autouse=True)
def no_faults_left(bench: Any) -> Iterator[None]:
    yield
    bench.aws.control.clear_faults()


@pytest.fixture(scope="module")
def caller(bench: Any, caller_source: str) -> str:
    bench.function("caller", caller_source, EVERYTHING)
    return "caller"


@pytest.mark.parametrize(
    ("action", "error", "status", "call"),
    [
        ("ec2:DescribeInstances", "RequestLimitExceeded", 503, ("ec2", "describe_instances")),
        ("autoscaling:*", "Throttling", 400, ("autoscaling", "describe_auto_scaling_groups")),
        ("ssm:ListCommands", "InternalServerError", 500, ("ssm", "list_commands")),
        ("SQS:GetQueueUrl", "ServiceUnavailable", 503, ("sqs", "get_queue_url")),
    ],
)
def test_call_fails_as_often_as_asked(
    bench: Any, caller: str, action: str, error: str, status: int, call: tuple[str, str]
) -> None:
    params = {"QueueName": "q"} if call[0] == "sqs" else {}
    bench.queue("q")
    bench.aws.control.inject_fault(action, error, count=1)
    failed = bench.call(caller, *call, **params)
    assert (failed["Code"], failed["status"]) == (error, status)
    assert bench.call(caller, *call, **params)["Code"] == "ok"


def test_operators_calls_and_other_roles_are_spared(bench: Any, caller: str) -> None:
    bench.aws.control.inject_fault("ec2:DescribeInstances", "Unavailable")
    bench.aws.client("ec2").describe_instances()
    assert bench.call(caller, "ec2", "describe_instances")["status"] == 503
    bench.aws.control.clear_faults()
    bench.aws.control.inject_fault("ec2:*", "Unavailable", role="somebody-else")
    assert bench.call(caller, "ec2", "describe_instances")["Code"] == "ok"


def test_slow_call_is_slow_and_holds_up_nobody_else(bench: Any, caller: str) -> None:
    bench.call(caller, "ec2", "describe_instances")
    bench.aws.control.inject_fault("ec2:DescribeInstances", delay_seconds=1.0)
    begun = time.monotonic()
    assert bench.call(caller, "ec2", "describe_instances")["Code"] == "ok"
    assert time.monotonic() - begun >= 1.0


def test_fault_spares_the_calls_before_the_one_it_is_for(bench: Any, caller: str) -> None:
    bench.aws.control.inject_fault("ec2:DescribeInstances", "Unavailable", count=1, spared=2)
    statuses = [bench.call(caller, "ec2", "describe_instances")["Code"] for _ in range(4)]
    assert statuses == ["ok", "ok", "Unavailable", "ok"]


def test_call_whose_answer_is_spoiled_has_been_carried_out(bench: Any, caller: str) -> None:
    url, _ = bench.queue("spoiled")
    bench.aws.control.inject_fault("sqs:SendMessage", "InternalFailure", count=1, takes_effect=True)
    failed = bench.call(caller, "sqs", "send_message", QueueUrl=url, MessageBody="once")
    assert failed["Code"] == "InternalFailure"
    assert bench.waiting(url) == ["once"]


def test_call_whose_answer_is_lost_has_none_of_the_services_own(bench: Any, caller: str) -> None:
    url, _ = bench.queue("lost")
    bench.aws.control.inject_fault("sqs:SendMessage", count=1, lost=True)
    assert bench.call(caller, "sqs", "send_message", QueueUrl=url, MessageBody="never")["status"] == 504
    assert bench.waiting(url) == []


def test_queues_clock_ends_a_visibility_timeout_at_once(bench: Any) -> None:
    url, _ = bench.queue("skipped", VisibilityTimeout="600")
    bench.aws.client("sqs").send_message(QueueUrl=url, MessageBody="again")
    assert bench.waiting(url) == ["again"]
    (message,) = bench.aws.control.queue_messages("skipped")
    assert (message["receive_count"], round(message["visible_in"])) == (1, 600)
    bench.aws.control.skip_queue_time(599)
    assert bench.waiting(url) == []
    bench.aws.control.skip_queue_time(2)
    assert bench.waiting(url) == ["again"]
    bench.aws.control.empty_queue("skipped")
    assert bench.aws.control.queue_messages("skipped") == []


def test_fault_that_would_do_nothing_is_refused(bench: Any) -> None:
    with pytest.raises(ControlError, match="an error, a delay, or both"):
        bench.aws.control.inject_fault("ec2:DescribeInstances")
    with pytest.raises(ControlError, match="service:Operation"):
        bench.aws.control.inject_fault("DescribeInstances", "Throttling")
