"""deregister_target: out of every target group, once or often, and no bad instance in a good one's way."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from deregister_target.deregister import Deregister, combine
from spot_failover.departures import ActionResult
from spot_failover.fleets import FleetDirectory
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Outcome, Step

from tests.unit.lambdas.fake_aws import TAG, Aws

Notice = Callable[..., dict[str, Any]]
SECOND = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/second/0123456789abcdef"


@pytest.fixture
def function(aws: Aws) -> NoticeFunction:
    return aws.notice_function(
        Step.DEREGISTER, Deregister(aws.elbv2, FleetDirectory(aws.autoscaling, tag_key=TAG))
    )


def test_a_batch_over_two_fleets_is_one_call_for_each_target_group(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    chat, code = aws.add_fleet("chat", nodes=3), aws.add_fleet("code", nodes=2)
    aws.send(*(notice_event(key) for key in [*chat[:2], *code[:1]]))
    assert aws.deliver(function) == []
    assert list(aws.load_balancing.registered.values()) == [{chat[2]}, {code[1]}]
    assert len(aws.journal.of("deregister_targets")) == 2
    assert len(aws.journal.of("describe_auto_scaling_groups")) == 1
    assert aws.outcome(Step.DEREGISTER, chat[0]) is Outcome.DEREGISTERED


def test_a_second_notice_for_a_deregistered_node_changes_nothing(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    for _ in range(3):
        aws.send(notice_event(node))
        assert aws.deliver(function) == []
    assert list(aws.load_balancing.registered.values()) == [{other}]
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.DEREGISTERED


def test_an_invalid_target_in_the_middle_holds_up_no_other(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    nodes = aws.add_fleet("chat", nodes=3)
    invalid = sorted(nodes)[1]
    aws.journal.fail(
        "deregister_targets", "InvalidTarget", when=lambda call: {"Id": invalid} in call["Targets"]
    )
    aws.send(*(notice_event(key) for key in nodes))
    assert aws.deliver(function) == []
    assert list(aws.load_balancing.registered.values()) == [{invalid}]
    assert aws.outcome(Step.DEREGISTER, invalid) is Outcome.NOT_REGISTERED
    assert {aws.outcome(Step.DEREGISTER, key) for key in nodes if key != invalid} == {Outcome.DEREGISTERED}


def test_a_throttled_target_group_brings_back_only_its_own_nodes(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (chat,), (code,) = aws.add_fleet("chat", nodes=1), aws.add_fleet("code", nodes=1)
    aws.journal.fail(
        "deregister_targets", "Throttling", times=1, when=lambda call: "/chat/" in call["TargetGroupArn"]
    )
    aws.send(notice_event(chat), notice_event(code))
    assert len(aws.deliver(function)) == 1
    assert aws.outcome(Step.DEREGISTER, code) is Outcome.DEREGISTERED
    assert aws.outcome(Step.DEREGISTER, chat) is Outcome.RETRYING
    aws.now += timedelta(seconds=1)
    assert aws.deliver(function) == []
    assert aws.outcome(Step.DEREGISTER, chat) is Outcome.DEREGISTERED
    assert list(aws.load_balancing.registered.values()) == [set(), set()]


def test_a_node_in_two_target_groups_is_done_when_both_are(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.groups.groups["spot-failover-chat"]["TargetGroupARNs"].append(SECOND)
    aws.load_balancing.registered[SECOND] = {node}
    aws.journal.fail(
        "deregister_targets", "Throttling", times=1, when=lambda call: call["TargetGroupArn"] == SECOND
    )
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1
    assert aws.deliver(function) == []
    assert list(aws.load_balancing.registered.values()) == [set(), set()]


def test_a_target_group_that_was_replaced_is_found_at_the_next_attempt(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    first, second = aws.add_fleet("chat", nodes=2)
    aws.send(notice_event(first))
    aws.deliver(function)
    aws.groups.groups["spot-failover-chat"]["TargetGroupARNs"] = [SECOND]
    aws.load_balancing.registered[SECOND] = {second}
    aws.journal.fail(
        "deregister_targets", "TargetGroupNotFound", when=lambda call: call["TargetGroupArn"] != SECOND
    )
    aws.send(notice_event(second))
    assert len(aws.deliver(function)) == 1
    assert aws.deliver(function) == []
    assert aws.load_balancing.registered[SECOND] == set()


def test_a_fleet_without_group_or_target_group_is_told_apart_and_dropped(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (groupless,) = aws.add_instances(1, tags=[{"Key": TAG, "Value": "alone"}])
    (node,) = aws.add_fleet("batch", nodes=1)
    aws.groups.groups["spot-failover-batch"]["TargetGroupARNs"] = []
    aws.send(notice_event(groupless), notice_event(node))
    assert aws.deliver(function) == []
    assert aws.outcome(Step.DEREGISTER, groupless) is Outcome.NO_GROUP
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.NO_TARGET_GROUP


def test_access_denied_is_dead_lettered_at_once(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.journal.fail("deregister_targets", "AccessDenied")
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    ((_, reason),) = aws.dead_letters()
    assert "elasticloadbalancing:DeregisterTargets" in reason
    assert "AccessDenied" in reason
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.FAILED


def test_the_directory_is_remembered_for_a_minute(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    nodes = aws.add_fleet("chat", nodes=3)
    for node, seconds in zip(nodes, (0, 59, 2), strict=True):
        aws.now += timedelta(seconds=seconds)
        aws.send(notice_event(node, at=aws.now))
        aws.deliver(function)
    assert len(aws.journal.of("describe_auto_scaling_groups")) == 2


@pytest.mark.parametrize(
    ("outcomes", "combined"),
    [
        ([Outcome.DEREGISTERED, Outcome.NOT_REGISTERED], Outcome.DEREGISTERED),
        ([Outcome.NOT_REGISTERED, Outcome.NOT_REGISTERED], Outcome.NOT_REGISTERED),
        ([Outcome.DEREGISTERED, Outcome.RETRYING], Outcome.RETRYING),
        ([Outcome.RETRYING, Outcome.FAILED, Outcome.DEREGISTERED], Outcome.FAILED),
    ],
)
def test_what_is_left_to_do_outweighs_what_is_done(outcomes: list[Outcome], combined: Outcome) -> None:
    assert combine([(str(n), ActionResult(one)) for n, one in enumerate(outcomes)]).outcome is combined
