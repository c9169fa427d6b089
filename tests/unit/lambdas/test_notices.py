"""A notice is read strictly: AWS's own sample goes in, and everything else is refused with a clear word."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spot_failover.errors import MalformedMessageError
from spot_failover.notices import InstanceAction, Notice, parse_notice

from tests.unit.lambdas.fake_aws import sample_event

NOTICE = timedelta(seconds=120)
NOW = datetime(2099, 1, 1, tzinfo=UTC)  # later than all times here
SAMPLE = sample_event("ec2_spot_interruption_warning")
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def test_awss_own_sample_is_a_notice() -> None:
    assert parse_notice(json.dumps(SAMPLE), notice=NOTICE, now=NOW) == Notice(
        instance_id="i-1234567890abcdef0",
        action=InstanceAction.TERMINATE,
        noticed_at=datetime(2026, 11, 23, 13, 38, tzinfo=UTC),
        deadline=datetime(2026, 11, 23, 13, 40, tzinfo=UTC),
    )


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_every_action_of_ec2_is_known(action: str) -> None:
    event = {**SAMPLE, "detail": {**SAMPLE["detail"], "instance-action": action}}
    assert parse_notice(json.dumps(event), notice=NOTICE, now=NOW).action == action


def _with(**changes: Any) -> str:
    return json.dumps({**SAMPLE, **{key.replace("_", "-"): value for key, value in changes.items()}})


def _with_detail(name: str, value: object) -> str:
    return json.dumps({**SAMPLE, "detail": {**SAMPLE["detail"], name: value}})


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 200_000, "not JSON"),
        ("9" * 5000, "not JSON"),
        ("[]", "not a JSON object but list"),
        ("null", "not a JSON object"),
        ("{}", "detail is not an object"),
        (_with(detail=None), "detail is not an object"),
        (_with(source="aws.autoscaling"), "not an 'EC2 Spot"),
        (_with(detail_type="EC2 Instance Rebalance Recommendation"), "not an 'EC2 Spot"),
        (_with(source=7), "source is 7"),
        (_with(time="yyyy-mm-ddThh:mm:ssZ"), "not a UTC time"),
        (_with(time="2026-11-23T13:38:00"), "not a UTC time"),
        (_with(time="2026-11-23T13:38:00+01:00"), "not a UTC time"),
        (_with(time="2026-13-23T13:38:00Z"), "not a UTC time"),
        (_with(time="٢026-11-23T13:38:00Z"), "not a UTC time"),
        (_with(time=None), "time is None"),
        (_with(time="9999-12-31T23:59:00Z"), "not a time of ours"),
        (_with_detail("instance-id", "i-XYZ"), "not an instance id"),
        (_with_detail("instance-id", "i-1234567890abcdef0,i-1234567890abcdef1"), "not an instance id"),
        (_with_detail("instance-id", "i-1234567890abcdef0\n"), "not an instance id"),
        (_with_detail("instance-id", ["i-1234567890abcdef0"]), "instance-id is list"),
        (_with_detail("instance-action", "explode"), "instance-action is none of terminate, stop, hibernate"),
        (_with_detail("instance-action", None), "instance-action is None"),
    ],
)
def test_near_misses_are_refused_and_told_apart(body: str, complaint: str) -> None:
    with pytest.raises(MalformedMessageError, match=complaint) as caught:
        parse_notice(body, notice=NOTICE, now=NOW)
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 200


@given(ANY_JSON)
def test_any_json_is_a_notice_or_malformed(document: object) -> None:
    with pytest.raises(MalformedMessageError):
        parse_notice(json.dumps(document), notice=NOTICE, now=NOW)


@given(st.text())
def test_any_text_is_a_notice_or_malformed(body: str) -> None:
    with pytest.raises(MalformedMessageError):
        parse_notice(body, notice=NOTICE, now=NOW)


@given(
    st.sampled_from(["source", "detail-type", "time", "detail", "instance-id", "instance-action"]), ANY_JSON
)
def test_a_notice_with_any_one_value_replaced_is_a_notice_or_malformed(name: str, value: object) -> None:
    body = _with_detail(name, value) if name.startswith("instance") else json.dumps({**SAMPLE, name: value})
    try:
        notice = parse_notice(body, notice=NOTICE, now=NOW)
    except MalformedMessageError:
        return
    assert notice.deadline - notice.noticed_at == NOTICE


def test_a_fraction_of_a_second_is_kept(notice_event: Callable[..., dict[str, Any]]) -> None:
    event = notice_event("i-1234567890abcdef0") | {"time": "2026-11-23T13:38:00.250Z"}
    noticed_at = parse_notice(json.dumps(event), notice=NOTICE, now=NOW).noticed_at
    assert noticed_at == datetime(2026, 11, 23, 13, 38, 0, 250_000, tzinfo=UTC)


def test_a_notice_from_the_future_is_malformed_and_a_clock_that_is_slow_is_not() -> None:
    time = datetime(2026, 11, 23, 13, 38, tzinfo=UTC)
    body = json.dumps(SAMPLE | {"time": "2026-11-23T13:38:00Z"})
    assert parse_notice(body, notice=NOTICE, now=time - timedelta(seconds=60)).noticed_at == time
    with pytest.raises(MalformedMessageError, match="ahead of ours"):
        parse_notice(body, notice=NOTICE, now=time - timedelta(seconds=61))
