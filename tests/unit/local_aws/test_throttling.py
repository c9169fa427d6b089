"""Token buckets, step by step, and the limits that they are filled by."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spot_failover.errors import THROTTLING_CODES

from local_aws.endpoint.throttle_limits import UnknownLimitError, demands_of
from local_aws.endpoint.throttling import Throttle, TokenBucket
from local_aws.iam.resources import known_actions

# What the limits of some actions read of a call.
SOME_CALL: dict[str, Any] = {
    "Bucket": "a-bucket",
    "InstanceIds": ["i-1", "i-2"],
    "TableName": "incidents",
    "TransactItems": [{"Put": {"TableName": "incidents", "Item": {}}}],
}
BATCHES: dict[str, dict[str, Any]] = {
    "dynamodb:BatchGetItem": {"RequestItems": {"incidents": {"Keys": [{}]}}},
    "dynamodb:BatchWriteItem": {"RequestItems": {"incidents": [{"PutRequest": {"Item": {}}}]}},
}
FILTERED = {"Filters": [{"Name": "instance-id", "Values": ["i-1"]}]}

capacities = st.integers(4, 4_000).map(lambda quarters: quarters / 4)  # exact as binary fractions
refills = st.floats(min_value=0, max_value=100)
pauses = st.lists(st.floats(min_value=0, max_value=60), max_size=50)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def throttle(clock: Clock) -> Throttle:
    """One that holds to AWS's limits."""
    throttle = Throttle(clock)
    throttle.switch({"enabled": True})
    return throttle


def passed(throttle: Throttle, action: str, *, calls: int, **params: Any) -> int:
    return sum(throttle.refusal(action, lambda: params) is None for _ in range(calls))


@given(capacity=capacities, refill=refills, pauses=pauses)
def test_no_schedule_gets_more_than_the_bucket_held_and_was_refilled(
    capacity: float, refill: float, pauses: list[float]
) -> None:
    bucket = TokenBucket.full(capacity=capacity, refill_per_second=refill, now=0)
    now, got = 0.0, 0
    for pause in pauses:
        now += pause
        after = bucket.take(1, now=now)
        bucket, got = (bucket, got) if after is None else (after, got + 1)
        assert 0 <= bucket.tokens <= capacity
        assert got <= capacity + refill * now + 1e-3


@given(capacity=capacities, refill=refills)
def test_a_full_bucket_gives_at_once_what_it_holds_and_no_more(capacity: float, refill: float) -> None:
    bucket = TokenBucket.full(capacity=capacity, refill_per_second=refill, now=5)
    for _ in range(math.floor(capacity)):
        after = bucket.take(1, now=5)
        assert after is not None
        bucket = after
    assert bucket.take(1, now=5) is None


@given(capacity=capacities, refill=st.floats(min_value=0.1, max_value=100), parts=st.integers(1, 20))
def test_a_bucket_that_is_looked_at_often_fills_as_one_that_is_left_alone(
    capacity: float, refill: float, parts: int
) -> None:
    empty = TokenBucket(capacity, refill, tokens=0, at=0)
    watched = empty
    for part in range(1, parts + 1):
        watched = watched.filled(part)
    assert watched.tokens == pytest.approx(empty.filled(parts).tokens)


@given(capacity=capacities, refill=st.floats(min_value=0.1, max_value=100))
def test_waiting_for_a_token_is_enough(capacity: float, refill: float) -> None:
    empty = TokenBucket(capacity, refill, tokens=0, at=0)
    assert empty.take(1, now=0.9 / refill) is None
    assert empty.take(1, now=1 / refill) is not None


def test_a_call_that_costs_more_than_a_bucket_holds_takes_all_of_it() -> None:
    full = TokenBucket.full(capacity=10, refill_per_second=1, now=0)
    emptied = full.take(25, now=0)
    assert emptied is not None
    assert emptied.tokens == 0
    assert emptied.take(25, now=9) is None
    assert emptied.take(25, now=10) is not None


def test_time_that_runs_backwards_neither_fills_nor_empties_a_bucket() -> None:
    half = TokenBucket(10, 1, tokens=5, at=100)
    assert half.filled(50) == half


@pytest.mark.parametrize("action", sorted(known_actions()))
def test_every_action_that_a_role_can_be_permitted_has_a_limit(action: str) -> None:
    demands = demands_of(action, BATCHES.get(action, SOME_CALL))
    assert demands or action.startswith("sqs:"), "only a queue's actions have none"
    for demand in demands:
        limit = demand.limit
        assert limit.capacity >= limit.refill_per_second > 0
        assert 0 < demand.tokens <= limit.capacity
        assert limit.source


@pytest.mark.parametrize("action", ["dynamodb:ListTables", "iam:ListRoles", "s3:ListAllMyBuckets", "ssm:Run"])
def test_action_without_an_entry_has_no_limit_made_up_for_it(action: str, throttle: Throttle) -> None:
    with pytest.raises(UnknownLimitError, match=action):
        demands_of(action, {})
    assert throttle.refusal(action, dict) is None


def test_filtered_lookup_has_a_larger_bucket_than_one_of_everything(throttle: Throttle) -> None:
    assert passed(throttle, "ec2:DescribeInstances", calls=200) == 50
    assert passed(throttle, "ec2:DescribeInstances", calls=200, MaxResults=10) == 100
    assert passed(throttle, "ec2:DescribeInstances", calls=1, **FILTERED) == 0, "the larger one is empty, too"


def test_bucket_refills_while_nobody_calls(throttle: Throttle, clock: Clock) -> None:
    passed(throttle, "ec2:DescribeInstances", calls=100, **FILTERED)
    clock.now += 2
    assert passed(throttle, "ec2:DescribeInstances", calls=100, **FILTERED) == 40


def test_deregistering_takes_from_its_own_bucket_and_from_the_load_balancers_common_one(
    throttle: Throttle,
) -> None:
    assert passed(throttle, "elasticloadbalancing:DeregisterTargets", calls=100) == 20
    assert passed(throttle, "elasticloadbalancing:DescribeTargetHealth", calls=100) == 20, "of its 40"
    buckets = throttle.view({})["buckets"]
    assert buckets["elasticloadbalancing"]["tokens"] == 0
    assert buckets["elasticloadbalancing: non-mutating"]["tokens"] == 20, "a refused call takes nothing"
    assert buckets["elasticloadbalancing: registration"]["refused"] == 80


def test_each_terminated_instance_costs_a_token(throttle: Throttle) -> None:
    ids = [f"i-{number}" for number in range(300)]
    assert passed(throttle, "ec2:TerminateInstances", calls=10, InstanceIds=ids) == 3


@pytest.mark.parametrize(
    ("action", "params", "units"),
    [
        ("dynamodb:PutItem", {"TableName": "t", "Item": {"a": {"S": "x" * 3000}}}, 3),
        ("dynamodb:UpdateItem", {"TableName": "t"}, 1),
        ("dynamodb:Query", {"TableName": "t"}, 1),
        (
            "dynamodb:BatchWriteItem",
            {"RequestItems": {"t": [{"PutRequest": {"Item": {}}}, {"DeleteRequest": {}}]}},
            2,
        ),
        ("dynamodb:BatchGetItem", {"RequestItems": {"t": {"Keys": [{}, {}, {}]}}}, 3),
        ("dynamodb:TransactWriteItems", {"TransactItems": [{"Put": {"TableName": "t", "Item": {}}}] * 2}, 4),
    ],
)
def test_a_tables_tokens_are_request_units(action: str, params: dict[str, Any], units: float) -> None:
    (demand,) = demands_of(action, params)
    assert demand.tokens == units
    assert demand.bucket.endswith(" t")


def test_limits_are_off_until_they_are_switched_on_and_then_start_full(clock: Clock) -> None:
    throttle = Throttle(clock)
    assert passed(throttle, "ssm:SendCommand", calls=100) == 100
    throttle.switch({"enabled": True})
    assert passed(throttle, "ssm:SendCommand", calls=100) == 3
    throttle.switch({"enabled": True})
    assert passed(throttle, "ssm:SendCommand", calls=100) == 3
    throttle.switch({"enabled": False})
    assert passed(throttle, "ssm:SendCommand", calls=100) == 100


def test_a_factor_scales_every_limit_and_an_override_stands_as_it_is(
    throttle: Throttle, clock: Clock
) -> None:
    throttle.switch({"enabled": True, "factor": 0.1, "overrides": {"ssm:SendCommand": [7, 2]}})
    assert passed(throttle, "ec2:DescribeInstances", calls=50, **FILTERED) == 10
    assert passed(throttle, "ssm:SendCommand", calls=50) == 7
    assert passed(throttle, "ssm:CancelCommand", calls=50) == 1, "a bucket holds one token at least"
    clock.now += 1
    assert passed(throttle, "ec2:DescribeInstances", calls=50, **FILTERED) == 2
    assert passed(throttle, "ssm:SendCommand", calls=50) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"factor": 0}, "above 0"),
        ({"overrides": {"SendCommand": [1, 1]}}, "service:Operation"),
        ({"overrides": {"ssm:SendCommand": [0, 1]}}, "at least 1 token"),
        ({"overrides": {"ssm:SendCommand": [1, -1]}}, "at least 1 token"),
    ],
)
def test_limits_that_make_no_sense_are_refused_and_change_nothing(
    throttle: Throttle, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        throttle.switch({"enabled": False, **given})
    assert throttle.view({})["enabled"] is True


def test_every_refusal_is_one_that_the_functions_take_for_throttling(throttle: Throttle) -> None:
    for action in sorted(known_actions()):
        throttle.switch({"enabled": True, "overrides": {action: [1, 0]}})
        assert throttle.refusal(action, dict) is None
        refusal = throttle.refusal(action, dict)
        assert refusal is not None
        assert refusal[0] in THROTTLING_CODES


def test_a_view_says_what_each_bucket_gave_and_on_whose_word_its_size_is(throttle: Throttle) -> None:
    passed(throttle, "ssm:SendCommand", calls=5)
    passed(throttle, "sts:AssumeRole", calls=2)
    shown = throttle.view({})
    assert (shown["enabled"], shown["factor"]) == (True, 1.0)
    assert list(shown["buckets"]) == ["ssm:SendCommand", "sts"]
    commands, sts = shown["buckets"]["ssm:SendCommand"], shown["buckets"]["sts"]
    assert (commands["taken"], commands["refused"], commands["tokens"]) == (3, 2, 0)
    assert (commands["published"], sts["published"]) == (False, True)
    assert sts["taken"] == 2
