"""drain_node: one command for a fleet and a batch, and one unknown node in nobody's way."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from drain_node.drain import Drain, deadlines_parameter, delivery_timeout
from spot_failover.departures import Departure
from spot_failover.fleets import Node
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Outcome, Step

from tests.unit.lambdas.fake_aws import NOTICED, Aws

Notice = Callable[..., dict[str, Any]]


@pytest.fixture
def function(aws: Aws) -> NoticeFunction:
    return aws.notice_function(Step.DRAIN_COMMAND, Drain(aws.ssm, document="SpotFailover-DrainNode"))


def departure(instance_id: str, *, left: float) -> Departure:
    return Departure(Node(instance_id, "chat", None), NOTICED, NOTICED + timedelta(seconds=left))


def test_one_command_for_all_fleets_carries_each_nodes_own_deadline(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    first, second = sorted(aws.add_fleet("chat", nodes=2))
    (other,) = aws.add_fleet("code", nodes=1)
    aws.now = NOTICED + timedelta(seconds=31)
    aws.send(
        notice_event(second, at=NOTICED + timedelta(seconds=30)), notice_event(first), notice_event(other)
    )
    assert aws.deliver(function) == []
    (call,) = aws.journal.of("send_command")
    assert sorted(call["Parameters"]["Deadlines"][0].split(",")) == [
        f"{first}@2026-11-23T13:40:00Z",
        f"{second}@2026-11-23T13:40:30Z",
        f"{other}@2026-11-23T13:40:00Z",
    ]
    assert call["DocumentName"] == "SpotFailover-DrainNode"
    assert call["TimeoutSeconds"] >= 30
    assert sorted(call["Comment"].removeprefix("spot failover: drain 3 of ").split(", ")) == ["chat", "code"]
    incident = aws.incident(first)
    assert incident is not None
    assert re.fullmatch("[0-9-]{36}", incident.entries[0].detail["command_id"])


@pytest.mark.parametrize("names_the_unknown", [True, False])
def test_an_unknown_instance_in_the_middle_holds_up_no_other_and_is_tried_again(
    aws: Aws, function: NoticeFunction, notice_event: Notice, names_the_unknown: bool
) -> None:
    aws.systems_manager.names_the_unknown = names_the_unknown
    nodes = sorted(aws.add_fleet("chat", nodes=3))
    aws.systems_manager.managed.remove(nodes[1])
    aws.send(*(notice_event(key) for key in nodes))
    assert len(aws.deliver(function)) == 1
    assert [aws.outcome(Step.DRAIN_COMMAND, key) for key in nodes] == [
        Outcome.COMMANDED,
        Outcome.NOT_MANAGED,
        Outcome.COMMANDED,
    ]
    aws.systems_manager.managed.add(nodes[1])  # its agent has registered
    aws.now += timedelta(seconds=2)
    assert aws.deliver(function) == []
    assert aws.outcome(Step.DRAIN_COMMAND, nodes[1]) is Outcome.COMMANDED
    assert aws.waiting() == 0


def test_a_throttled_command_brings_its_nodes_back_together(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (chat,), (code,) = aws.add_fleet("chat", nodes=1), aws.add_fleet("code", nodes=1)
    aws.journal.fail("send_command", "ThrottlingException", times=1)
    aws.send(notice_event(chat), notice_event(code))
    assert len(aws.deliver(function)) == 2
    aws.now += timedelta(seconds=1)
    assert aws.deliver(function) == []
    assert aws.outcome(Step.DRAIN_COMMAND, chat) is Outcome.COMMANDED
    assert aws.outcome(Step.DRAIN_COMMAND, code) is Outcome.COMMANDED
    assert len(aws.journal.of("send_command")) == 2


def test_a_node_that_iam_refuses_by_name_takes_no_other_along(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    """Its tag was taken away a moment ago, say."""
    nodes = sorted(aws.add_fleet("chat", nodes=3))
    text = f"not authorized to perform: ssm:SendCommand on resource: arn:aws:ec2:::instance/{nodes[2]}"
    aws.journal.fail(
        "send_command",
        "AccessDeniedException",
        message=text,
        when=lambda call: nodes[2] in call["InstanceIds"],
    )
    aws.send(*(notice_event(key) for key in nodes))
    assert aws.deliver(function) == []
    assert [aws.outcome(Step.DRAIN_COMMAND, key) for key in nodes] == [
        Outcome.COMMANDED,
        Outcome.COMMANDED,
        Outcome.FAILED,
    ]
    assert len(aws.dead_letters()) == 1


def test_a_refused_command_is_dead_lettered_and_leaves_the_node_to_its_own_agent(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.journal.fail("send_command", "AccessDeniedException")
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    assert "ssm:SendCommand" in aws.dead_letters()[0][1]
    assert aws.outcome(Step.DRAIN_COMMAND, node) is Outcome.FAILED


def test_a_command_that_hangs_leaves_the_next_fifty_to_another_look(aws: Aws) -> None:
    going = [departure(key, left=100) for key in aws.add_fleet("chat", nodes=60)]
    results = Drain(aws.ssm, document="SpotFailover-DrainNode")(going, NOTICED, lambda: True)
    outcomes = [results[one.node.instance_id].outcome for one in going]
    assert outcomes == [Outcome.COMMANDED] * 50 + [Outcome.RETRYING] * 10


def test_the_deadlines_parameter_admits_nothing_but_ids_and_times() -> None:
    going = [departure("i-0123456789abcdef0", left=120.9), departure("i-01234567", left=60)]
    parameter = deadlines_parameter(going)
    assert parameter == "i-0123456789abcdef0@2026-11-23T13:40:00Z,i-01234567@2026-11-23T13:39:00Z"
    assert re.fullmatch(r"[-,@:TZi0-9a-f]+", parameter)


@pytest.mark.parametrize(("left", "timeout"), [(120, 120), (99.5, 100), (5, 30)])
def test_a_command_waits_for_its_node_until_the_deadline_but_no_less_than_ssm_allows(
    left: float, timeout: int
) -> None:
    assert delivery_timeout([departure("i-01234567", left=left)], now=NOTICED) == timeout
