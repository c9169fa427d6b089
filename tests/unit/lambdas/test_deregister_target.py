"""deregister_target: out of every target group, once or often, and no bad instance in a good one's way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from deregister_target.deregister import Deregister, combine
from deregister_target.tagged_groups import TaggedTargetGroups
from spot_failover.departures import ActionResult
from spot_failover.fleets import FleetDirectory
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Outcome, Step

from tests.unit.lambdas.fake_aws import TAG, Aws
from tests.unit.lambdas.fake_services import client_error

Notice = Callable[..., dict[str, Any]]
CHAT = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/chat/0123456789abcdef"
SECOND = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/second/0123456789abcdef"
CALLS = ("describe_instances", "describe_auto_scaling_groups", "get_resources")
ELB_CALLS = ("describe_target_health", "deregister_targets", "register_targets")


@pytest.fixture
def function(aws: Aws) -> NoticeFunction:
    directory = FleetDirectory(aws.autoscaling, tag_key=TAG)
    tagged = TaggedTargetGroups(aws.tagging, tag_key=TAG)
    action = Deregister(aws.elbv2, directory, tagged, reserve=timedelta(seconds=20))
    return aws.notice_function(Step.DEREGISTER, action)


def calls(aws: Aws) -> dict[str, int]:
    """Return how often each call was made since the last time."""
    counted = {name: len(aws.journal.of(name)) for name in (*CALLS, *ELB_CALLS)}
    aws.journal.calls.clear()
    return {name: number for name, number in counted.items() if number}


def test_a_batch_over_two_fleets_is_one_call_for_each_target_group(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    chat, code = aws.add_fleet("chat", nodes=3), aws.add_fleet("code", nodes=2)
    aws.send(*(notice_event(key) for key in [*chat[:2], *code[:1]]))
    assert aws.deliver(function) == []
    assert [aws.load_balancing.serving(arn) for arn in aws.load_balancing.targets] == [{chat[2]}, {code[1]}]
    assert calls(aws) == {
        **dict.fromkeys(CALLS, 1),
        "describe_target_health": 4,  # before, and whether everybody was right, after
        "deregister_targets": 2,
    }
    assert aws.outcome(Step.DEREGISTER, chat[0]) is Outcome.DEREGISTERED


def test_a_warm_function_deregisters_by_what_it_knows(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    nodes = aws.add_fleet("chat", nodes=4)
    for node in nodes[:2]:
        aws.journal.calls.clear()
        aws.send(notice_event(node))
        assert aws.deliver(function) == []
    asked = [name for name, _ in aws.journal.calls if name in (*CALLS, *ELB_CALLS)]
    assert asked[:2] == ["describe_instances", "deregister_targets"]
    assert asked[2:] == ["describe_target_health"], "the look afterwards delays nothing"
    assert aws.load_balancing.serving(CHAT) == set(nodes[2:])


def test_a_second_notice_for_a_deregistered_node_changes_nothing(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    for _ in range(3):
        aws.send(notice_event(node))
        assert aws.deliver(function) == []
    assert aws.load_balancing.serving(CHAT) == {other}
    assert len(aws.journal.of("deregister_targets")) == 1
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.DEREGISTERED


def test_a_node_is_deregistered_under_each_port_it_is_registered_under(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    aws.load_balancing.add(CHAT, [node], port=9000)
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    assert aws.load_balancing.serving(CHAT) == {other}
    (call,) = aws.journal.of("deregister_targets")
    assert {one["Port"] for one in call["Targets"]} == {8000, 9000}


def test_a_node_leaves_the_target_groups_that_only_carry_the_fleets_tag(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    aws.load_balancing.add(SECOND, [node, other], port=9000, fleet="chat")
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    assert [aws.load_balancing.serving(arn) for arn in (CHAT, SECOND)] == [{other}, {other}]
    incident = aws.incident(node)
    assert incident is not None
    assert incident.entries[-1].detail["target_groups"] == [CHAT, SECOND]


def test_a_node_that_was_launched_since_is_found_by_asking_again(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    first, *_ = aws.add_fleet("chat", nodes=3)
    aws.send(notice_event(first))
    aws.deliver(function)
    (late,) = aws.add_instances(1, tags=[{"Key": TAG, "Value": "chat"}])
    aws.load_balancing.add(CHAT, [late])
    aws.send(notice_event(late))
    assert aws.deliver(function) == []
    assert late not in aws.load_balancing.serving(CHAT)
    assert aws.outcome(Step.DEREGISTER, late) is Outcome.DEREGISTERED


def test_a_node_in_no_target_group_is_told_apart(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    aws.add_fleet("chat", nodes=1)
    (pending,) = aws.add_instances(1, tags=[{"Key": TAG, "Value": "chat"}])
    aws.send(notice_event(pending))
    assert aws.deliver(function) == []
    assert aws.outcome(Step.DEREGISTER, pending) is Outcome.NOT_REGISTERED
    assert aws.journal.of("deregister_targets") == aws.journal.of("register_targets") == []


def test_an_invalid_target_in_the_middle_holds_up_no_other(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    *nodes, other = aws.add_fleet("chat", nodes=4)
    invalid = sorted(nodes)[1]
    aws.journal.fail(
        "deregister_targets",
        "InvalidTarget",
        when=lambda call: invalid in {one["Id"] for one in call["Targets"]},
    )
    aws.send(*(notice_event(key) for key in nodes))
    assert aws.deliver(function) == []
    assert aws.load_balancing.serving(CHAT) == {invalid, other}
    assert aws.outcome(Step.DEREGISTER, invalid) is Outcome.NOT_REGISTERED
    assert {aws.outcome(Step.DEREGISTER, key) for key in nodes if key != invalid} == {Outcome.DEREGISTERED}


def test_a_throttled_target_group_brings_back_only_its_own_nodes(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (chat, _), (code, _) = aws.add_fleet("chat", nodes=2), aws.add_fleet("code", nodes=2)
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
    for arn in aws.load_balancing.targets:
        assert not {chat, code} & aws.load_balancing.serving(arn)


def test_a_node_in_two_target_groups_is_done_when_both_are(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    aws.groups.groups["spot-failover-chat"]["TargetGroupARNs"].append(SECOND)
    aws.load_balancing.add(SECOND, [node, other])
    aws.journal.fail(
        "deregister_targets", "Throttling", times=1, when=lambda call: call["TargetGroupArn"] == SECOND
    )
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1
    assert aws.deliver(function) == []
    assert [aws.load_balancing.serving(arn) for arn in (CHAT, SECOND)] == [{other}, {other}]


def test_a_target_group_that_was_replaced_is_found_at_the_next_attempt(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    first, second, third = aws.add_fleet("chat", nodes=3)
    aws.send(notice_event(first))
    aws.deliver(function)
    aws.groups.groups["spot-failover-chat"]["TargetGroupARNs"] = [SECOND]
    aws.load_balancing.add(SECOND, [second, third])
    del aws.load_balancing.targets[CHAT], aws.load_balancing.tags[CHAT]
    aws.send(notice_event(second))
    assert len(aws.deliver(function)) == 1
    assert aws.deliver(function) == []
    assert aws.load_balancing.serving(SECOND) == {third}


def test_a_fleet_without_group_or_target_group_is_told_apart_and_dropped(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (groupless,) = aws.add_instances(1, tags=[{"Key": TAG, "Value": "alone"}])
    (node,) = aws.add_fleet("batch", nodes=1)
    aws.groups.groups["spot-failover-batch"]["TargetGroupARNs"] = []
    aws.load_balancing.tags.clear()
    aws.send(notice_event(groupless), notice_event(node))
    assert aws.deliver(function) == []
    assert aws.outcome(Step.DEREGISTER, groupless) is Outcome.NO_GROUP
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.NO_TARGET_GROUP


@pytest.mark.parametrize(
    ("call", "action"),
    [
        ("deregister_targets", "elasticloadbalancing:DeregisterTargets"),
        ("describe_target_health", "elasticloadbalancing:DescribeTargetHealth"),
        ("get_resources", "tag:GetResources"),
    ],
)
def test_access_denied_is_dead_lettered_at_once_and_keeps_from_nothing_else(
    aws: Aws, function: NoticeFunction, notice_event: Notice, call: str, action: str
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    aws.journal.fail(call, "AccessDenied")
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    ((_, reason),) = aws.dead_letters()
    assert action in reason
    assert "AccessDenied" in reason
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.FAILED
    left = call != "deregister_targets"
    assert aws.load_balancing.serving(CHAT) == ({other} if left else {node, other})


def test_a_refused_target_group_ends_no_other_ones_retries_and_is_a_dead_letter_after_them(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    aws.load_balancing.add(SECOND, [node, other], fleet="chat")

    def second(call: Mapping[str, Any]) -> bool:
        return bool(call["TargetGroupArn"] == SECOND)

    aws.journal.fail("deregister_targets", "AccessDenied", when=second)
    aws.journal.fail("deregister_targets", "Throttling", times=1, when=lambda call: not second(call))
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1
    incident = aws.incident(node)
    assert incident is not None
    assert incident.entries[-1].detail["refused"]["code"] == "AccessDenied"
    aws.now += timedelta(seconds=1)
    assert aws.deliver(function) == []
    assert aws.load_balancing.serving(CHAT) == {other}
    ((_, reason),) = aws.dead_letters()
    assert "AccessDenied" in reason


def test_a_throttled_tag_lookup_keeps_no_node_in_the_target_group_of_its_group(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    aws.journal.fail("get_resources", "ThrottledException", times=1)
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1
    assert aws.load_balancing.serving(CHAT) == {other}
    assert aws.deliver(function) == []
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.DEREGISTERED


def test_what_is_known_of_a_fleet_is_remembered_for_a_minute(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    nodes = aws.add_fleet("chat", nodes=4)
    for node, seconds in zip(nodes[:3], (0, 59, 2), strict=True):
        aws.now += timedelta(seconds=seconds)
        aws.send(notice_event(node, at=aws.now))
        aws.deliver(function)
    assert len(aws.journal.of("describe_auto_scaling_groups")) == 2
    assert len(aws.journal.of("get_resources")) == 2


def test_target_groups_that_hang_leave_the_others_their_time_next_time(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    third = SECOND.replace("second", "third")
    for arn in (SECOND, third):
        aws.groups.groups["spot-failover-chat"]["TargetGroupARNs"].append(arn)
        aws.load_balancing.add(arn, [node, other])
    describe = aws.load_balancing.describe_target_health

    def hangs(**parameters: Any) -> Any:
        if parameters["TargetGroupArn"] == third:
            return describe(**parameters)
        aws.now += timedelta(seconds=9)
        raise client_error("DescribeTargetHealth", "RequestTimeout")

    aws.load_balancing.describe_target_health = hangs  # type: ignore[method-assign]
    aws.send(notice_event(node))
    begun = aws.now
    assert len(aws.deliver(function)) == 1
    assert aws.now - begun < timedelta(seconds=20)
    assert aws.load_balancing.serving(third) == {node, other}
    assert len(aws.deliver(function)) == 1
    assert aws.load_balancing.serving(third) == {other}


@pytest.mark.parametrize(
    ("outcomes", "combined"),
    [
        ([Outcome.DEREGISTERED, Outcome.NOT_REGISTERED], Outcome.DEREGISTERED),
        ([Outcome.NOT_REGISTERED, Outcome.NOT_REGISTERED], Outcome.NOT_REGISTERED),
        ([Outcome.DEREGISTERED, Outcome.HELD], Outcome.HELD),
        ([Outcome.HELD, Outcome.RETRYING], Outcome.RETRYING),
        ([Outcome.DEREGISTERED, Outcome.RETRYING], Outcome.RETRYING),
        ([Outcome.FAILED, Outcome.DEREGISTERED], Outcome.FAILED),
        ([Outcome.RETRYING, Outcome.FAILED, Outcome.DEREGISTERED], Outcome.RETRYING),
        ([Outcome.FAILED, Outcome.HELD], Outcome.HELD),
    ],
)
def test_what_is_left_to_do_outweighs_what_is_done(outcomes: list[Outcome], combined: Outcome) -> None:
    assert combine([(str(n), ActionResult(one)) for n, one in enumerate(outcomes)]).outcome is combined
