"""request_replacement: one replacement for each node, however often and in whatever company."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from request_replacement.replacement import Membership, RequestReplacement, judge
from spot_failover.fleets import FleetDirectory
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Outcome, Step
from sweep_incidents.judgement import is_ours_to_end

from tests.unit.lambdas.fake_aws import NOTICED, TAG, Aws
from tests.unit.lambdas.fake_services import client_error

Notice = Callable[..., dict[str, Any]]


@pytest.fixture
def function(aws: Aws) -> NoticeFunction:
    return aws.notice_function(
        Step.REPLACEMENT_REQUEST,
        RequestReplacement(aws.autoscaling, FleetDirectory(aws.autoscaling, tag_key=TAG)),
    )


def test_a_batch_is_one_detach_for_each_group_and_one_launch_for_each_node(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    nodes = [*aws.add_fleet("chat", nodes=3), *aws.add_fleet("code", nodes=2)]
    aws.send(*(notice_event(key) for key in nodes))
    assert aws.deliver(function) == []
    assert len(aws.journal.of("detach_instances")) == 2
    assert aws.journal.of("describe_auto_scaling_instances") == []
    assert aws.groups.launches == 5
    assert {aws.outcome(Step.REPLACEMENT_REQUEST, key) for key in nodes} == {Outcome.DETACHED}


@pytest.mark.parametrize("seed", range(5))
def test_in_any_order_and_with_any_repeats_each_node_is_replaced_once(
    aws: Aws, function: NoticeFunction, notice_event: Notice, seed: int
) -> None:
    nodes = aws.add_fleet("chat", nodes=4)
    notices = [notice_event(key) for key in nodes for _ in range(4)]
    random.Random(seed).shuffle(notices)
    aws.send(*notices)
    while aws.waiting():
        assert aws.deliver(function) == []
        aws.now += timedelta(seconds=1)
    assert aws.groups.launches == 4
    assert aws.groups.members == {}
    assert {aws.outcome(Step.REPLACEMENT_REQUEST, key) for key in nodes} == {Outcome.DETACHED}


def test_one_node_that_cannot_be_detached_holds_up_no_other(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    gone, terminating, pending, good, standby = aws.add_fleet("chat", nodes=5)
    group = "spot-failover-chat"
    del aws.groups.members[gone]
    states = {terminating: "Terminating:Wait", pending: "Pending:Wait", standby: "Standby"}
    aws.groups.members |= {key: (group, state) for key, state in states.items()}
    aws.send(*(notice_event(key) for key in (gone, terminating, pending, good, standby)))
    assert aws.deliver(function) == []
    assert aws.groups.launches == 2
    assert {
        key: aws.outcome(Step.REPLACEMENT_REQUEST, key) for key in (gone, terminating, pending, good, standby)
    } == {
        gone: Outcome.ALREADY_DETACHED,
        terminating: Outcome.LEFT_TO_GROUP,
        pending: Outcome.LEFT_TO_GROUP,
        good: Outcome.DETACHED,
        standby: Outcome.DETACHED,
    }
    assert len(aws.journal.of("detach_instances")) == 2
    assert len(aws.journal.of("describe_auto_scaling_instances")) == 1


def test_a_node_that_is_refused_though_it_looks_detachable_holds_up_no_other(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    odd, good = aws.add_fleet("chat", nodes=2)
    aws.journal.fail("detach_instances", "ValidationError", when=lambda call: odd in call["InstanceIds"])
    aws.send(notice_event(odd), notice_event(good))
    assert aws.deliver(function) == []
    assert (aws.outcome(Step.REPLACEMENT_REQUEST, odd), aws.outcome(Step.REPLACEMENT_REQUEST, good)) == (
        Outcome.FAILED,
        Outcome.DETACHED,
    )
    assert "ValidationError" in aws.dead_letters()[0][1]


@pytest.mark.parametrize("code", ["ResourceContention", "ScalingActivityInProgress", "Throttling"])
def test_a_busy_group_is_asked_again_and_launches_once(
    aws: Aws, function: NoticeFunction, notice_event: Notice, code: str
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.journal.fail("detach_instances", code, times=2)
    aws.send(notice_event(node))
    for _ in range(2):
        assert len(aws.deliver(function)) == 1
        aws.now += timedelta(seconds=1)
    assert aws.deliver(function) == []
    assert aws.groups.launches == 1
    assert aws.outcome(Step.REPLACEMENT_REQUEST, node) is Outcome.DETACHED


def test_a_detach_whose_answer_got_lost_launches_once(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    detach = aws.groups.detach_instances

    def answer_lost(**parameters: Any) -> Any:
        detach(**parameters)
        aws.groups.detach_instances = detach  # type: ignore[method-assign]
        raise client_error("DetachInstances", "InternalFailure", status=500)

    aws.groups.detach_instances = answer_lost  # type: ignore[method-assign]
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1
    aws.now += timedelta(seconds=1)
    assert aws.deliver(function) == []
    assert aws.groups.launches == 1
    assert aws.outcome(Step.REPLACEMENT_REQUEST, node) is Outcome.ALREADY_DETACHED


def test_a_detach_whose_record_is_lost_comes_back_and_is_known_as_ours(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.journal.fail("batch_write_item", "ThrottlingException", times=1)
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1
    assert aws.incident(node) is None
    aws.now += timedelta(seconds=1)
    assert aws.deliver(function, receive_count=2) == []
    assert aws.groups.launches == 1
    incident = aws.incident(node)
    assert incident is not None
    assert incident.outcomes == {Step.REPLACEMENT_REQUEST: Outcome.ALREADY_DETACHED}
    assert is_ours_to_end(incident)


def test_a_record_that_cannot_be_written_until_the_deadline_is_a_dead_letter(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.journal.fail("batch_write_item", "ThrottlingException")
    aws.send(notice_event(node))
    for seconds in (1, 60, 119):
        aws.now = NOTICED + timedelta(seconds=seconds)
        assert len(aws.deliver(function)) == 1
    aws.now = NOTICED + timedelta(seconds=120)
    assert aws.deliver(function) == []
    assert [reason for _, reason in aws.dead_letters()] == ["failed: unrecorded=missed"]


def test_who_was_out_at_the_first_look_was_not_taken_out_by_us(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    del aws.groups.members[node]
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    incident = aws.incident(node)
    assert incident is not None
    assert not is_ours_to_end(incident)


def test_a_detach_that_botocore_itself_made_twice_is_known_as_ours(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    del aws.groups.members[node]

    def refused_at_the_second_attempt(**_: Any) -> Any:
        error = client_error("DetachInstances", "ValidationError")
        error.response["ResponseMetadata"]["RetryAttempts"] = 1
        raise error

    aws.groups.detach_instances = refused_at_the_second_attempt  # type: ignore[method-assign]
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    incident = aws.incident(node)
    assert incident is not None
    assert incident.outcomes == {Step.REPLACEMENT_REQUEST: Outcome.ALREADY_DETACHED}
    assert is_ours_to_end(incident)


def test_memberships_that_cannot_be_read_bring_all_back(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    gone, good = aws.add_fleet("chat", nodes=2)
    del aws.groups.members[gone]
    aws.journal.fail("describe_auto_scaling_instances", "Throttling", times=1)
    aws.send(notice_event(gone), notice_event(good))
    assert len(aws.deliver(function)) == 2
    aws.now += timedelta(seconds=1)
    assert aws.deliver(function) == []
    assert (aws.outcome(Step.REPLACEMENT_REQUEST, gone), aws.outcome(Step.REPLACEMENT_REQUEST, good)) == (
        Outcome.ALREADY_DETACHED,
        Outcome.DETACHED,
    )


def test_a_group_with_capacity_rebalancing_keeps_its_one_owner(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1, capacity_rebalance=True)
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    assert aws.journal.of("detach_instances") == []
    assert aws.outcome(Step.REPLACEMENT_REQUEST, node) is Outcome.LEFT_TO_CAPACITY_REBALANCING


def test_with_two_groups_in_a_fleet_a_node_leaves_its_own(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.groups.groups["another"] = {
        **aws.groups.groups["spot-failover-chat"],
        "AutoScalingGroupName": "another",
    }
    (stray,) = aws.add_instances(1, tags=[{"Key": TAG, "Value": "chat"}])
    aws.send(notice_event(node), notice_event(stray))
    assert aws.deliver(function) == []
    assert [call["AutoScalingGroupName"] for call in aws.journal.of("detach_instances")] == [
        "spot-failover-chat"
    ]
    assert aws.outcome(Step.REPLACEMENT_REQUEST, stray) is Outcome.NO_GROUP


def test_groups_whose_calls_hang_leave_the_others_their_time_next_time(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    nodes = [aws.add_fleet(name, nodes=1)[0] for name in ("a", "b", "c")]
    detach = aws.groups.detach_instances

    def hangs(**parameters: Any) -> Any:
        if nodes[2] in parameters["InstanceIds"]:
            return detach(**parameters)
        aws.now += timedelta(seconds=9)
        raise client_error("DetachInstances", "RequestTimeout")

    aws.groups.detach_instances = hangs  # type: ignore[method-assign]
    aws.send(*(notice_event(node) for node in nodes))
    begun = aws.now
    assert len(aws.deliver(function)) == 3
    assert aws.now - begun < timedelta(seconds=20)
    assert aws.outcome(Step.REPLACEMENT_REQUEST, nodes[2]) is Outcome.RETRYING
    assert len(aws.deliver(function)) == 2
    assert aws.outcome(Step.REPLACEMENT_REQUEST, nodes[2]) is Outcome.DETACHED


def test_a_directory_that_cannot_be_read_brings_all_back(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    nodes = aws.add_fleet("chat", nodes=2)
    aws.journal.fail("describe_auto_scaling_groups", "Throttling", times=1)
    aws.send(*(notice_event(key) for key in nodes))
    assert len(aws.deliver(function)) == 2
    aws.now += timedelta(seconds=1)
    assert aws.deliver(function) == []
    assert aws.groups.launches == 2


@pytest.mark.parametrize(
    ("membership", "expected"),
    [
        (None, Outcome.ALREADY_DETACHED),
        (Membership("g", "InService"), None),
        (Membership("g", "Standby"), None),
        (Membership("other", "InService"), Outcome.LEFT_TO_GROUP),
        *(
            (Membership("g", state), Outcome.LEFT_TO_GROUP)
            for state in (
                "Pending",
                "Pending:Wait",
                "Pending:Proceed",
                "Quarantined",
                "Terminating",
                "Terminating:Wait",
                "Terminating:Proceed",
                "Terminated",
                "Warmed:Running",
            )
        ),
        (Membership("g", "EnteringStandby"), Outcome.RETRYING),
        (Membership("g", "Detaching"), Outcome.ALREADY_DETACHED),
        (Membership("g", "Detached"), Outcome.ALREADY_DETACHED),
    ],
)
def test_every_lifecycle_state_has_its_answer(
    membership: Membership | None, expected: Outcome | None
) -> None:
    verdict = judge(membership, "g")
    assert (verdict.outcome if verdict else None) is expected
