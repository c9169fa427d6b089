"""AWS's own limits on requests, met by real clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from local_aws.control_client import ControlError

EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}

# Makes one call many times, and says how each ended and how long all took.
BURST = """
import time
import boto3, botocore.config, botocore.exceptions
def handler(event, context):
    retries = {"mode": "standard", "total_max_attempts": event["attempts"]}
    client = boto3.client(event["service"], config=botocore.config.Config(retries=retries))
    ends = []
    begun = time.monotonic()
    for _ in range(event["calls"]):
        try:
            getattr(client, event["operation"])(**event["params"])
            ends.append("ok")
        except botocore.exceptions.ClientError as err:
            ends.append([err.response["Error"]["Code"], err.response["ResponseMetadata"]["HTTPStatusCode"]])
    return {"ends": ends, "seconds": time.monotonic() - begun}
"""
FILTERED: dict[str, Any] = {"Filters": [{"Name": "instance-state-name", "Values": ["running"]}]}


class Caller:
    """A function of the local AWS that calls AWS in bursts."""

    def __init__(self, bench: Any) -> None:
        self._bench = bench
        self.role = "burst-role"
        bench.function("burst", BURST, EVERYTHING)

    def burst(
        self, service: str, operation: str, calls: int, *, attempts: int = 1, **params: Any
    ) -> tuple[list[Any], float]:
        """Return how the calls ended, and their seconds."""
        event = {"service": service, "operation": operation, "calls": calls, "attempts": attempts}
        payload, error = self._bench.invoke("burst", {**event, "params": params})
        assert error is None, payload
        return payload["ends"], payload["seconds"]


@pytest.fixture(scope="module")
def caller(bench: Any) -> Caller:
    return Caller(bench)


@pytest.fixture(autouse=True)
def no_limits_left(bench: Any) -> Iterator[None]:
    yield
    bench.aws.control.throttle(False)


@pytest.mark.parametrize(
    ("service", "operation", "params", "action", "refusal"),
    [
        ("ec2", "describe_instances", FILTERED, "ec2:DescribeInstances", ["RequestLimitExceeded", 503]),
        (
            "elbv2",
            "describe_target_groups",
            {},
            "elasticloadbalancing:DescribeTargetGroups",
            ["Throttling", 400],
        ),
        (
            "autoscaling",
            "describe_auto_scaling_groups",
            {},
            "autoscaling:DescribeAutoScalingGroups",
            ["Throttling", 400],
        ),
        ("ssm", "list_commands", {}, "ssm:ListCommands", ["ThrottlingException", 400]),
        (
            "dynamodb",
            "describe_table",
            {"TableName": "none"},
            "dynamodb:DescribeTable",
            ["ThrottlingException", 400],
        ),
        (
            "logs",
            "create_log_stream",
            {"logGroupName": "g", "logStreamName": "s"},
            "logs:CreateLogStream",
            ["ThrottlingException", 400],
        ),
        ("s3", "list_objects_v2", {"Bucket": "none"}, "s3:ListBucket", ["SlowDown", 503]),
        ("sts", "get_caller_identity", {}, "sts:GetCallerIdentity", ["Throttling", 400]),
        (
            "lambda",
            "invoke",
            {"FunctionName": "none"},
            "lambda:InvokeFunction",
            ["TooManyRequestsException", 429],
        ),
    ],
)
def test_calls_beyond_the_bucket_are_refused_as_their_service_does(
    bench: Any,
    caller: Caller,
    service: str,
    operation: str,
    params: dict[str, Any],
    action: str,
    refusal: list[Any],
) -> None:
    bench.aws.control.throttle(True, overrides={action: (2, 0)})
    ends, _ = caller.burst(service, operation, 4, **params)
    assert refusal not in ends[:2]
    assert ends[2:] == [refusal, refusal]
    results = [call["result"] for call in bench.aws.control.calls(caller.role) if call["action"] == action]
    assert results[-2:] == [refusal[0], refusal[0]]
    (bucket,) = bench.aws.control.throttling()["buckets"].values()
    assert (bucket["taken"], bucket["refused"]) == (2, 2)


def test_a_burst_gets_what_aws_publishes_and_another_bucket_is_not_touched(
    bench: Any, caller: Caller
) -> None:
    """At a tenth of EC2's figures: 5 lookups of everything and one more a second, 10 and two filtered."""
    bench.aws.control.throttle(True, factor=0.1)
    ends, seconds = caller.burst("ec2", "describe_instances", 40)
    assert ends[:5] == ["ok"] * 5
    assert ends.count("ok") <= min(5 + seconds + 1, 39)
    assert caller.burst("ec2", "describe_instances", 10, **FILTERED)[0] == ["ok"] * 10
    buckets = bench.aws.control.throttling()["buckets"]
    assert buckets["ec2:DescribeInstances, unfiltered"]["refused"] == len(ends) - ends.count("ok")
    assert buckets["ec2:DescribeInstances"]["refused"] == 0


def test_the_clients_own_retries_get_through(bench: Any, caller: Caller) -> None:
    bench.aws.control.throttle(True, overrides={"ec2:DescribeInstances": (2, 4)})
    before = len(bench.aws.control.calls(caller.role))
    ends, _ = caller.burst("ec2", "describe_instances", 6, attempts=10)
    assert ends == ["ok"] * 6
    calls = bench.aws.control.calls(caller.role)[before:]
    results = [call["result"] for call in calls if call["action"] == "ec2:DescribeInstances"]
    assert results.count("ok") == 6
    assert results.count("RequestLimitExceeded") == len(results) - 6 > 0


def test_operators_spend_nothing_and_are_refused_nothing(bench: Any, caller: Caller) -> None:
    bench.aws.control.throttle(True, overrides={"ec2:DescribeInstances": (1, 0)})
    ec2 = bench.aws.client("ec2")
    for _ in range(3):
        ec2.describe_instances()
    ends, _ = caller.burst("ec2", "describe_instances", 2)
    assert ends == ["ok", ["RequestLimitExceeded", 503]]


def test_limits_are_off_unless_they_are_asked_for(bench: Any, caller: Caller) -> None:
    assert bench.aws.control.throttling() == {"enabled": False, "factor": 1.0, "buckets": {}}
    assert caller.burst("ssm", "list_commands", 30)[0] == ["ok"] * 30


def test_a_throttled_call_does_not_use_up_a_fault(bench: Any, caller: Caller) -> None:
    bench.aws.control.throttle(True, overrides={"ssm:ListCommands": (1, 0)})
    caller.burst("ssm", "list_commands", 1)
    bench.aws.control.inject_fault("ssm:ListCommands", "InternalServerError", count=1)
    try:
        assert caller.burst("ssm", "list_commands", 1)[0] == [["ThrottlingException", 400]]
        bench.aws.control.throttle(False)
        assert caller.burst("ssm", "list_commands", 2)[0] == [["InternalServerError", 500], "ok"]
    finally:
        bench.aws.control.clear_faults()


def test_limits_that_make_no_sense_are_refused(bench: Any) -> None:
    with pytest.raises(ControlError, match="above 0"):
        bench.aws.control.throttle(True, factor=0)
    with pytest.raises(ControlError, match="service:Operation"):
        bench.aws.control.throttle(True, overrides={"SendCommand": (1, 1)})
