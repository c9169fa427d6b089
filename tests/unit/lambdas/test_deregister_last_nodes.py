"""The last nodes of a fleet stay registered until somebody else can serve, or their time is nearly over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from deregister_target.deregister import Deregister
from deregister_target.last_nodes import plan
from deregister_target.tagged_groups import TaggedTargetGroups
from deregister_target.targets import Registration, Target, TargetGroup
from hypothesis import given
from hypothesis import strategies as st
from spot_failover.departures import Departure
from spot_failover.fleets import FleetDirectory, Node
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Outcome, Step

from tests.unit.lambdas.fake_aws import NOTICED, TAG, Aws

Notice = Callable[..., dict[str, Any]]
Metrics = Callable[[], dict[tuple[str, str], list[float]]]
CHAT = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/chat/0123456789abcdef"
RESERVE = timedelta(seconds=20)


def new_function(aws: Aws) -> NoticeFunction:
    """Return the function in an execution environment of its own."""
    directory = FleetDirectory(aws.autoscaling, tag_key=TAG)
    action = Deregister(aws.elbv2, directory, TaggedTargetGroups(aws.tagging, tag_key=TAG), reserve=RESERVE)
    return aws.notice_function(Step.DEREGISTER, action)


@pytest.fixture
def function(aws: Aws) -> NoticeFunction:
    return new_function(aws)


def test_a_whole_fleet_that_goes_stays_registered_until_a_replacement_is_healthy(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    nodes = aws.add_fleet("chat", nodes=3)
    aws.send(*(notice_event(key) for key in nodes))
    assert len(aws.deliver(function)) == 3
    assert aws.load_balancing.serving(CHAT) == set(nodes)
    assert {aws.outcome(Step.DEREGISTER, key) for key in nodes} == {Outcome.HELD}
    aws.load_balancing.set_state("unhealthy", *nodes)  # they drain, and their agents answer 503
    (replacement,) = aws.add_instances(1, tags=[{"Key": TAG, "Value": "chat"}])
    aws.load_balancing.add(CHAT, [replacement], state="initial")
    assert len(aws.deliver(function)) == 3
    aws.load_balancing.set_state("healthy", replacement)
    assert aws.deliver(function) == []
    assert aws.load_balancing.serving(CHAT) == {replacement}
    assert {aws.outcome(Step.DEREGISTER, key) for key in nodes} == {Outcome.DEREGISTERED}


def test_what_the_group_deregisters_with_its_detachment_is_registered_again(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    nodes = aws.add_fleet("chat", nodes=2)
    aws.load_balancing.add(CHAT, nodes[:1], port=9000)
    aws.send(*(notice_event(key) for key in nodes))
    aws.deliver(function)
    aws.load_balancing.set_state("draining", *nodes)
    aws.journal.calls.clear()
    assert len(aws.deliver(function)) == 2
    assert aws.load_balancing.serving(CHAT) == set(nodes)
    (call,) = aws.journal.of("register_targets")
    assert len(call["Targets"]) == 3, "one call, and every port"
    aws.load_balancing.targets[CHAT].clear()  # gone altogether, where the deregistration delay is short
    assert len(aws.deliver(function)) == 2
    assert aws.load_balancing.serving(CHAT) == set(nodes)


def test_a_cold_function_that_finds_the_last_node_draining_takes_it_back(
    aws: Aws, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.load_balancing.set_state("draining", node)
    aws.send(notice_event(node))
    assert len(aws.deliver(new_function(aws))) == 1
    assert aws.load_balancing.serving(CHAT) == {node}


def test_a_last_node_leaves_shortly_before_its_deadline(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.send(notice_event(node))
    aws.now = NOTICED + timedelta(seconds=99)
    assert len(aws.deliver(function)) == 1
    aws.now = NOTICED + timedelta(seconds=100)
    assert aws.deliver(function) == []
    assert aws.load_balancing.serving(CHAT) == set()
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.DEREGISTERED


def test_two_functions_that_each_saw_half_of_the_departures_leave_somebody(
    aws: Aws, notice_event: Notice
) -> None:
    """Each finds the other's node healthy. Whoever is later sees that nobody is left."""
    first, second = aws.add_fleet("chat", nodes=2)
    one, other = new_function(aws), new_function(aws)
    aws.send(notice_event(first))
    assert aws.deliver(one) == []
    aws.load_balancing.set_state("healthy", first)  # as the other saw it a moment ago
    stale = aws.load_balancing.describe_target_health(TargetGroupArn=CHAT)
    aws.load_balancing.set_state("draining", first)
    answers = iter([stale])
    fresh = aws.load_balancing.describe_target_health
    aws.load_balancing.describe_target_health = lambda **asked: next(answers, None) or fresh(**asked)  # type: ignore[method-assign]
    aws.send(notice_event(second))
    assert len(aws.deliver(other)) == 1
    assert len(aws.journal.of("deregister_targets")) == 2
    assert aws.load_balancing.serving(CHAT) == {second}
    assert aws.outcome(Step.DEREGISTER, second) is Outcome.HELD


def test_a_throttled_look_afterwards_is_made_up_for(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    looks = iter([False, True])
    aws.journal.fail("describe_target_health", "Throttling", when=lambda _: next(looks, False))
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1
    assert aws.load_balancing.serving(CHAT) == {other}
    assert aws.deliver(function) == []
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.DEREGISTERED


def test_with_a_load_balancer_that_never_tells_a_node_leaves_in_time(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, other = aws.add_fleet("chat", nodes=2)
    aws.journal.fail("describe_target_health", "Throttling")
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1
    assert aws.load_balancing.serving(CHAT) == {node, other}
    aws.now = NOTICED + timedelta(seconds=101)
    assert aws.deliver(function) == []
    assert aws.load_balancing.serving(CHAT) == {other}
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.DEREGISTERED


def test_a_target_group_that_refuses_us_ends_no_hold_in_another(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.load_balancing.add(CHAT.replace("chat", "second"), [node], fleet="chat")
    aws.journal.fail(
        "describe_target_health", "AccessDenied", when=lambda call: "second" in call["TargetGroupArn"]
    )
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1
    aws.load_balancing.set_state("draining", node)  # its group deregisters it with its detachment
    assert len(aws.deliver(function)) == 1
    assert aws.load_balancing.serving(CHAT) == {node}
    aws.now = NOTICED + timedelta(seconds=101)
    assert aws.deliver(function) == []
    assert aws.load_balancing.serving(CHAT) == set()
    assert "AccessDenied" in aws.dead_letters()[0][1]


def test_a_node_that_runs_no_more_is_not_held(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    node, running = aws.add_fleet("chat", nodes=2)
    aws.load_balancing.set_state("draining", node, running)
    aws.load_balancing.stopped.add(node)
    aws.send(notice_event(node), notice_event(running))
    assert len(aws.deliver(function)) == 1
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.NOT_REGISTERED
    assert aws.load_balancing.serving(CHAT) == {running}


def test_a_target_group_that_nobody_forwards_to_holds_nobody(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.load_balancing.set_state("unused", node)
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.DEREGISTERED


def test_a_hold_is_told_once_and_looked_at_once_for_all_of_a_batch(
    aws: Aws, function: NoticeFunction, notice_event: Notice, metrics: Metrics
) -> None:
    nodes = aws.add_fleet("chat", nodes=9)
    aws.send(*(notice_event(key) for key in nodes))
    aws.deliver(function)
    assert metrics()["chat", "deregister.held"] == [1.0] * 9
    for _ in range(3):
        aws.journal.calls.clear()
        assert len(aws.deliver(function)) == 9
        assert len(aws.journal.of("describe_target_health")) == 1
        assert ("chat", "deregister.held") not in metrics()
    incident = aws.incident(nodes[0])
    assert incident is not None
    assert [entry.outcome for entry in incident.entries] == [Outcome.HELD]


def test_a_held_node_is_looked_at_each_second_and_later_every_other(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.send(notice_event(node))
    for seconds, wait in ((1, 1), (14, 1), (16, 2), (60, 2)):
        aws.now = NOTICED + timedelta(seconds=seconds)
        aws.journal.calls.clear()
        aws.deliver(function, receive_count=7)
        (call,) = aws.journal.of("change_message_visibility_batch")
        assert call["Entries"][0]["VisibilityTimeout"] == wait


def departure(instance_id: str, deadline: datetime = NOTICED + timedelta(seconds=120)) -> Departure:
    return Departure(Node(instance_id, "chat", None), NOTICED, deadline)


IDS = st.sampled_from([f"i-{number}" for number in range(6)])
STATES = st.sampled_from(["healthy", "unhealthy", "initial", "draining", "unused", "unavailable"])
PORTS = st.sampled_from([8000, 9000])
TARGETS = st.dictionaries(st.tuples(IDS, PORTS), STATES, max_size=10)
SECONDS = st.integers(0, 130)


def group_of(targets: dict[tuple[str, int], str]) -> TargetGroup:
    found = tuple(Target(Registration(*key), state) for key, state in targets.items())
    return TargetGroup(CHAT, NOTICED, found)


@given(targets=TARGETS, going=st.sets(IDS), others=st.sets(IDS), seconds=SECONDS)
def test_a_fleet_with_a_healthy_node_that_stays_holds_nobody(
    targets: dict[tuple[str, int], str], going: set[str], others: set[str], seconds: int
) -> None:
    leaving = going | others
    stays = any(state == "healthy" and key[0] not in leaving for key, state in targets.items())
    planned = plan(
        group_of(targets),
        [departure(key) for key in sorted(going)],
        leaving=leaving,
        known={},
        now=NOTICED + timedelta(seconds=seconds),
        reserve=RESERVE,
    )
    if stays or seconds >= 100:
        assert not planned.held
        assert not planned.register
    if planned.held:
        assert not any(one.instance_id in planned.held for one in planned.deregister)


@given(targets=TARGETS, known=st.dictionaries(IDS, PORTS), going=st.sets(IDS), seconds=SECONDS)
def test_everybody_who_goes_is_told_apart_once_and_nobody_else_is_touched(
    targets: dict[tuple[str, int], str], known: dict[str, int], going: set[str], seconds: int
) -> None:
    planned = plan(
        group_of(targets),
        [departure(key) for key in sorted(going)],
        leaving=going,
        known={key: [Registration(key, port)] for key, port in known.items()},
        now=NOTICED + timedelta(seconds=seconds),
        reserve=RESERVE,
    )
    leaving_now = {one.instance_id for one in planned.deregister}
    fates = [leaving_now, planned.held, planned.out, planned.absent]
    assert sum(map(len, fates)) == len(going)
    assert set().union(*fates) == going
    assert {one.instance_id for one in planned.register} <= planned.held
    present = {key for key, state in targets.items() if state != "draining"}
    # Converging: what is done leaves a held node registered, and one that leaves not.
    after = (present - set(planned.deregister)) | set(planned.register)
    assert planned.held <= {key[0] for key in after}
    assert not leaving_now & {key[0] for key in after}
