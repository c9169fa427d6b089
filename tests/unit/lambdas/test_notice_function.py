"""A batch of notices: one lookup, each message to its own end, and none in another's way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from spot_failover.departures import ActionResult, Departure, earliest_notices
from spot_failover.notice_function import NoticeFunction
from spot_failover.notices import InstanceAction
from spot_failover.notices import Notice as InterruptionNotice
from spot_failover.outcomes import Outcome, Step

from tests.unit.lambdas.fake_aws import NOTICED, TAG, Aws

Notice = Callable[..., dict[str, Any]]
Metrics = Callable[[], dict[tuple[str, str], list[float]]]


class SpyAction:
    """Answers as told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[Departure]] = []
        self.answers: dict[str, ActionResult] = {}

    def __call__(
        self, departures: Sequence[Departure], _now: datetime, _late: object
    ) -> Mapping[str, ActionResult]:
        self.asked.append(list(departures))
        done = ActionResult(Outcome.DEREGISTERED)
        return {one.node.instance_id: self.answers.get(one.node.instance_id, done) for one in departures}

    @property
    def instance_ids(self) -> list[list[str]]:
        return [[one.node.instance_id for one in departures] for departures in self.asked]


@pytest.fixture
def action() -> SpyAction:
    return SpyAction()


@pytest.fixture
def function(aws: Aws, action: SpyAction) -> NoticeFunction:
    return NoticeFunction(
        Step.DEREGISTER,
        action,
        settings=aws.settings,
        ec2=aws.ec2,
        sqs=aws.sqs,
        dynamodb=aws.dynamodb,
        clock=aws.clock,
    )


def test_a_batch_costs_one_lookup_one_action_and_one_write(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice
) -> None:
    nodes = [*aws.add_fleet("chat", nodes=3), *aws.add_fleet("code", nodes=2)]
    aws.send(*(notice_event(key) for key in nodes))
    assert aws.deliver(function) == []
    assert sorted(action.instance_ids[0]) == sorted(nodes)
    operations = [name for name, _ in aws.journal.calls]
    assert operations == ["describe_instances", "batch_write_item"]


def test_only_foreign_instances_cost_one_lookup_and_leave_no_trace(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice, metrics: Metrics
) -> None:
    tagged_otherwise = aws.add_instances(1, tags=[{"Key": "other", "Value": TAG}])
    foreign = [*aws.add_instances(1), *tagged_otherwise, "i-00000000000000000"]
    aws.send(*(notice_event(key) for key in foreign))
    assert aws.deliver(function) == []
    assert aws.waiting() == 0
    assert action.asked == []
    assert [name for name, _ in aws.journal.calls] == ["describe_instances"]
    assert metrics() == {("none", "deregister.foreign"): [1, 1, 1]}


def test_one_batch_of_everything_ends_each_message_in_its_own_place(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice, metrics: Metrics
) -> None:
    good, throttled, refused, late = aws.add_fleet("chat", nodes=4)
    action.answers = {
        throttled: ActionResult(Outcome.RETRYING, {"code": "Throttling"}),
        refused: ActionResult(Outcome.FAILED, {"code": "AccessDenied"}),
    }
    late_notice = notice_event(late, at=NOTICED - timedelta(minutes=5))
    aws.send("{not json", notice_event(good), notice_event("i-0000000000000000f"), notice_event(throttled))
    aws.send(notice_event(refused), late_notice)

    assert aws.deliver(function) == [json.dumps(notice_event(throttled))]

    assert aws.waiting() == 1
    letters = dict(aws.dead_letters())
    assert letters == {
        "{not json": "malformed: not JSON: JSONDecodeError",
        json.dumps(notice_event(refused)): "failed: code=AccessDenied",
    }
    outcomes = {key: incident.outcomes for key in aws.groups.members if (incident := aws.incident(key))}
    assert outcomes == {
        good: {Step.DEREGISTER: Outcome.DEREGISTERED},
        throttled: {Step.DEREGISTER: Outcome.RETRYING},
        refused: {Step.DEREGISTER: Outcome.FAILED},
        late: {Step.DEREGISTER: Outcome.MISSED},
    }
    counted = metrics()
    assert counted["chat", "deregister.seconds"] == [1.0]
    assert {key: len(values) for key, values in counted.items() if key[1] != "deregister.seconds"} == {
        ("none", "message.malformed"): 1,
        ("none", "deregister.foreign"): 1,
        ("chat", "deregister.deregistered"): 1,
        ("chat", "deregister.retrying"): 1,
        ("chat", "deregister.failed"): 1,
        ("chat", "deregister.missed"): 1,
    }


def test_a_retried_message_is_seen_again_after_seconds_and_later_each_time(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    action.answers = {node: ActionResult(Outcome.RETRYING)}
    aws.send(notice_event(node))
    for _ in range(5):
        assert len(aws.deliver(function)) == 1
    assert _waits(aws) == [1, 2, 4, 8, 8]


def _waits(aws: Aws) -> list[int]:
    return [
        entry["VisibilityTimeout"]
        for call in aws.journal.of("change_message_visibility_batch")
        for entry in call["Entries"]
    ]


def test_an_urgent_notice_is_seen_again_sooner_than_a_fresh_one(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice
) -> None:
    fresh, urgent = aws.add_fleet("chat", nodes=2)
    action.answers = dict.fromkeys((fresh, urgent), ActionResult(Outcome.RETRYING))
    aws.now = NOTICED + timedelta(seconds=108)
    aws.send(notice_event(fresh, at=NOTICED + timedelta(seconds=100)), notice_event(urgent))
    assert len(aws.deliver(function, receive_count=9)) == 2
    assert sorted(_waits(aws)) == [2, 8]
    assert action.instance_ids == [[urgent, fresh]]


def test_a_retry_that_lasts_to_the_deadline_is_recorded_as_missed_and_dropped(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    action.answers = {node: ActionResult(Outcome.RETRYING)}
    aws.send(notice_event(node))
    aws.now = NOTICED + timedelta(seconds=119.999)
    assert len(aws.deliver(function)) == 1
    aws.now = NOTICED + timedelta(seconds=120)
    assert aws.deliver(function) == []
    assert aws.waiting() == 0
    assert aws.dead_letters() == []
    incident = aws.incident(node)
    assert incident is not None
    assert incident.outcomes == {Step.DEREGISTER: Outcome.MISSED}
    assert len(action.asked) == 1


def test_repeats_of_a_notice_in_one_batch_act_once(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.send(*[notice_event(node)] * 3)
    assert aws.deliver(function) == []
    assert action.instance_ids == [[node]]
    incident = aws.incident(node)
    assert incident is not None
    assert len(incident.entries) == 1


def test_a_throttled_lookup_brings_every_notice_back_and_no_malformed_message(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice
) -> None:
    nodes = aws.add_fleet("chat", nodes=2)
    aws.journal.fail("describe_instances", "RequestLimitExceeded", times=1)
    aws.send("[]", *(notice_event(key) for key in nodes))
    assert len(aws.deliver(function)) == 2
    assert [reason for _, reason in aws.dead_letters()] == ["malformed: not a JSON object but list"]
    assert aws.deliver(function) == []
    assert sorted(action.instance_ids[0]) == sorted(nodes)


def test_a_lookup_that_fails_past_the_deadline_is_dead_lettered_not_dropped(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.journal.fail("describe_instances", "RequestLimitExceeded")
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1
    aws.now = NOTICED + timedelta(seconds=200)
    assert aws.deliver(function) == []
    assert "RequestLimitExceeded" in aws.dead_letters()[0][1]


def test_a_record_that_cannot_be_written_fails_no_failover(
    aws: Aws, function: NoticeFunction, notice_event: Notice, metrics: Metrics
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.journal.fail("batch_write_item", "AccessDeniedException")
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    counted = metrics()
    assert counted["chat", "deregister.deregistered"] == [1]
    assert counted["chat", "incident.unrecorded"] == [1]


def test_a_dead_letter_that_cannot_be_sent_keeps_only_its_own_message(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.journal.fail("send_message_batch", "ServiceUnavailable", times=1)
    aws.send("null", notice_event(node))
    assert aws.deliver(function) == ["null"]
    assert action.instance_ids == [[node]]
    assert aws.deliver(function) == []
    assert [body for body, _ in aws.dead_letters()] == ["null"]


def test_a_visibility_that_cannot_be_changed_only_delays_the_retry(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    action.answers = {node: ActionResult(Outcome.RETRYING)}
    aws.journal.fail("change_message_visibility_batch", "ServiceUnavailable")
    aws.send(notice_event(node))
    assert len(aws.deliver(function)) == 1


def test_log_lines_carry_instance_fleet_and_incident(
    aws: Aws, function: NoticeFunction, notice_event: Notice, caplog: pytest.LogCaptureFixture
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.send(notice_event(node))
    aws.deliver(function)
    told = [line for line in caplog.records if line.getMessage() == "deregister: deregistered"]
    keys = ("instance_id", "fleet", "incident", "step", "outcome")
    assert [[getattr(line, key) for key in keys] for line in told] == [
        [node, "chat", node, "deregister", "deregistered"]
    ]


def test_a_stale_notice_swallows_no_live_one_of_the_same_node(
    aws: Aws, function: NoticeFunction, action: SpyAction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.send(notice_event(node, at=NOTICED - timedelta(minutes=5)), notice_event(node))
    assert aws.deliver(function) == []
    assert [[one.noticed_at for one in asked] for asked in action.asked] == [[NOTICED]]
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.DEREGISTERED


def test_a_notice_that_passes_during_the_lookup_leaves_the_next_one_its_time(
    aws: Aws, action: SpyAction, notice_event: Notice
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    function = aws.notice_function(Step.DEREGISTER, action)
    first, second = notice_event(node), notice_event(node, at=NOTICED + timedelta(seconds=50))
    aws.send(first, second)
    aws.now = NOTICED + timedelta(seconds=119)
    describe = aws.instances.describe_instances

    def slow(**parameters: Any) -> Any:
        aws.now += timedelta(seconds=2)
        return describe(**parameters)

    aws.instances.describe_instances = slow  # type: ignore[method-assign]
    assert aws.deliver(function) == [json.dumps(second)]
    assert aws.deliver(function) == []
    assert aws.outcome(Step.DEREGISTER, node) is Outcome.DEREGISTERED


def test_of_several_notices_for_a_node_the_earliest_deadline_counts() -> None:
    def notice(second: int) -> InterruptionNotice:
        at = NOTICED + timedelta(seconds=second)
        return InterruptionNotice(
            instance_id="i-01234567",
            action=InstanceAction.TERMINATE,
            noticed_at=at,
            deadline=at + timedelta(seconds=120),
        )

    chosen = earliest_notices([notice(5), notice(-120), notice(0), notice(9)], now=NOTICED)
    assert {key: one.noticed_at for key, one in chosen.items()} == {"i-01234567": NOTICED}
