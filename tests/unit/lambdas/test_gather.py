"""A full batch is a storm: what else waits is handled with it, and each message settled by who holds it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from aws_lambda_powertools.metrics import MetricUnit
from drain_node.drain import Drain
from spot_failover.departures import ActionResult, Departure, parts, parts_of_any_fleets
from spot_failover.fleets import Node
from spot_failover.gather import LONGEST_SECONDS, MOST_MESSAGES, Gatherer
from spot_failover.messages import Message
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Outcome, Step
from spot_failover.telemetry import Telemetry

from tests.unit.lambdas.fake_aws import NOTICED, Aws

Notice = Callable[..., dict[str, Any]]


class Storm:
    """Answers as told, and remembers the nodes it was asked about at a time."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answers: dict[str, ActionResult] = {}
        self.takes = timedelta(0)
        self.aws: Aws | None = None

    def __call__(
        self, departures: Sequence[Departure], _now: datetime, _late: object
    ) -> Mapping[str, ActionResult]:
        if self.aws:
            self.aws.now += self.takes
        self.asked.append([one.node.instance_id for one in departures])
        done = ActionResult(Outcome.DEREGISTERED)
        return {one.node.instance_id: self.answers.get(one.node.instance_id, done) for one in departures}


@pytest.fixture
def action() -> Storm:
    return Storm()


@pytest.fixture
def function(aws: Aws, action: Storm) -> NoticeFunction:
    return aws.notice_function(Step.DEREGISTER, action)


def operations(aws: Aws) -> dict[str, int]:
    names = [name for name, _ in aws.journal.calls]
    return {name: names.count(name) for name in names}


def departing(instance_id: str, fleet: str, *, left: float = 120) -> Departure:
    return Departure(Node(instance_id, fleet, None), NOTICED, NOTICED + timedelta(seconds=left))


def test_a_storm_of_forty_costs_one_lookup_and_one_action_and_empties_the_queue(
    aws: Aws, function: NoticeFunction, action: Storm, notice_event: Notice
) -> None:
    nodes = [*aws.add_fleet("chat", nodes=25), *aws.add_fleet("code", nodes=15)]
    aws.send(*(notice_event(key) for key in nodes))
    assert aws.deliver(function) == []
    assert aws.waiting() == 0
    assert [sorted(asked) for asked in action.asked] == [sorted(nodes)]
    assert operations(aws) == {
        "receive_message": 4,
        "describe_instances": 1,
        "batch_write_item": 2,
        "delete_message_batch": 3,
    }
    assert {aws.outcome(Step.DEREGISTER, key) for key in nodes} == {Outcome.DEREGISTERED}


def test_a_batch_that_is_not_full_gathers_nothing(
    aws: Aws, function: NoticeFunction, notice_event: Notice
) -> None:
    aws.send(*(notice_event(key) for key in aws.add_fleet("chat", nodes=9)))
    assert aws.deliver(function) == []
    assert "receive_message" not in operations(aws)


def test_each_gathered_message_comes_to_its_own_end(
    aws: Aws, function: NoticeFunction, action: Storm, notice_event: Notice
) -> None:
    nodes = aws.add_fleet("chat", nodes=22)
    failing, refused = nodes[15], nodes[16]
    action.answers = {
        failing: ActionResult(Outcome.RETRYING, {"code": "ServiceUnavailable"}),
        refused: ActionResult(Outcome.FAILED, {"code": "AccessDenied"}),
    }
    aws.send(*(notice_event(key) for key in nodes[:20]), "{not json", "i-00000000000000000")
    aws.send(*(notice_event(key) for key in nodes[20:]), notice_event("i-00000000000000000"))
    assert aws.deliver(function) == []  # those that come back were gathered: they are not Lambda's to name
    assert {reason.split(":")[0] for _, reason in aws.dead_letters()} == {"malformed", "failed"}
    assert len(aws.dead_letters()) == 3
    (call,) = aws.journal.of("change_message_visibility_batch")
    assert [entry["VisibilityTimeout"] for entry in call["Entries"]] == [1]
    assert {aws.outcome(Step.DEREGISTER, key) for key in nodes} == {
        Outcome.DEREGISTERED,
        Outcome.RETRYING,
        Outcome.FAILED,
    }
    del action.answers[failing]
    _see_again(aws)
    assert aws.deliver(function) == []
    assert action.asked[-1] == [failing]
    assert aws.waiting() == 0


def _see_again(aws: Aws) -> None:
    """Make the messages visible that the function has put off, as time would."""
    for call in aws.journal.of("change_message_visibility_batch"):
        entries = [{**entry, "VisibilityTimeout": 0} for entry in call["Entries"]]
        aws.queues.change_message_visibility_batch(QueueUrl=aws.settings.queue_url, Entries=entries)


def test_a_function_that_dies_between_acting_and_deleting_does_it_all_again(
    aws: Aws, action: Storm, notice_event: Notice
) -> None:
    nodes = aws.add_fleet("chat", nodes=12)
    aws.send(*(notice_event(key) for key in nodes))
    dying = aws.notice_function(Step.DEREGISTER, action)
    aws.journal.fail("delete_message_batch", "InternalError")
    aws.deliver(dying)
    aws.journal.faults.clear()
    waiting = [entry for call in aws.journal.of("delete_message_batch") for entry in call["Entries"]]
    assert len(waiting) == 2
    again = [{**entry, "VisibilityTimeout": 0} for entry in waiting]
    aws.queues.change_message_visibility_batch(QueueUrl=aws.settings.queue_url, Entries=again)
    assert aws.deliver(aws.notice_function(Step.DEREGISTER, action)) == []
    assert aws.waiting() == 0
    assert len(action.asked[-1]) == 2


def test_a_queue_that_cannot_be_read_leaves_the_batch_as_it_was_delivered(
    aws: Aws, function: NoticeFunction, action: Storm, notice_event: Notice
) -> None:
    aws.send(*(notice_event(key) for key in aws.add_fleet("chat", nodes=12)))
    aws.journal.fail("receive_message", "AccessDenied")
    assert aws.deliver(function) == []
    assert [len(asked) for asked in action.asked] == [10]
    assert aws.waiting() == 2


def test_a_throttled_lookup_holds_up_no_other(
    aws: Aws,
    function: NoticeFunction,
    action: Storm,
    notice_event: Notice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spot_failover.notice_function.LOOKUP_LIMIT", 20)
    nodes = aws.add_fleet("chat", nodes=30)
    aws.journal.fail("describe_instances", "RequestLimitExceeded", times=1)
    aws.send(*(notice_event(key) for key in nodes))
    aws.deliver(function)
    lookups = [call["Filters"][0]["Values"] for call in aws.journal.of("describe_instances")]
    assert [len(values) for values in lookups] == [20, 10]
    assert [len(asked) for asked in action.asked] == [10]


def test_an_invocation_that_takes_too_long_puts_the_rest_back_unharmed(
    aws: Aws, function: NoticeFunction, action: Storm, notice_event: Notice
) -> None:
    fleets = [aws.add_fleet(f"fleet-{number:02}", nodes=1) for number in range(22)]
    action.aws, action.takes = aws, timedelta(seconds=5)
    aws.send(*(notice_event(key) for (key,) in fleets))
    aws.deliver(function)
    assert [len(asked) for asked in action.asked] == [10, 10]
    put_back = [key for (key,) in fleets if aws.outcome(Step.DEREGISTER, key) is Outcome.RETRYING]
    assert len(put_back) == 2


def test_what_a_storm_finds_throttled_is_asked_for_again_at_once_and_alone(
    aws: Aws, function: NoticeFunction, action: Storm, notice_event: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = aws.add_fleet("chat", nodes=12)
    throttled, contended = nodes[3], nodes[4]
    action.answers = {
        throttled: ActionResult(Outcome.RETRYING, {"code": "Throttling"}),
        contended: ActionResult(Outcome.RETRYING, {"code": "ResourceContention"}),
    }
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        aws.now += timedelta(seconds=seconds)
        if len(waits) == 3:
            del action.answers[throttled]

    monkeypatch.setattr("spot_failover.notice_function.time.sleep", wait)
    aws.send(*(notice_event(key) for key in nodes))
    aws.deliver(function)
    assert waits == [0.5] * 3
    assert action.asked[1:] == [[throttled]] * 3
    assert aws.outcome(Step.DEREGISTER, throttled) is Outcome.DEREGISTERED
    assert aws.outcome(Step.DEREGISTER, contended) is Outcome.RETRYING


def test_a_storm_that_is_throttled_throughout_goes_back_to_the_queue_in_time(
    aws: Aws, function: NoticeFunction, action: Storm, notice_event: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = aws.add_fleet("chat", nodes=12)
    action.answers = dict.fromkeys(nodes, ActionResult(Outcome.RETRYING, {"code": "Throttling"}))
    began = aws.now

    def wait(seconds: float) -> None:
        aws.now += timedelta(seconds=seconds)

    monkeypatch.setattr("spot_failover.notice_function.time.sleep", wait)
    aws.send(*(notice_event(key) for key in nodes))
    assert len(aws.deliver(function)) == 10
    assert timedelta(seconds=8) < aws.now - began <= timedelta(seconds=10)


def test_a_slow_lookup_keeps_no_lone_notice_from_its_action(
    aws: Aws, function: NoticeFunction, action: Storm, notice_event: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    look_up = aws.instances.describe_instances

    def slow(**parameters: Any) -> Any:
        aws.now += timedelta(seconds=9)
        return look_up(**parameters)

    monkeypatch.setattr(aws.instances, "describe_instances", slow)
    aws.send(notice_event(node))
    assert aws.deliver(function) == []
    assert action.asked == [[node]]


def test_every_count_of_a_storm_is_told(metrics: Callable[[], dict[tuple[str, str], list[float]]]) -> None:
    telemetry = Telemetry(namespace="SpotFailover")
    for number in range(250):  # a line of metrics has at most a hundred values of one
        telemetry.measure("deregister.seconds", MetricUnit.Seconds, number, fleet="chat")
        telemetry.count("deregister.deregistered", fleet="chat")
    telemetry.flush()
    told = metrics()
    assert sum(told["chat", "deregister.deregistered"]) == 250
    assert sorted(told["chat", "deregister.seconds"]) == list(range(250))


def test_gathering_ends_with_its_time_or_with_enough() -> None:
    class Endless:
        def __init__(self) -> None:
            self.given = 0

        def receive_message(self, **_: Any) -> dict[str, Any]:
            self.given += 10
            return {
                "Messages": [
                    {
                        "MessageId": f"{self.given}-{number}",
                        "ReceiptHandle": "r",
                        "Body": "",
                        "Attributes": {"ApproximateReceiveCount": "3"},
                    }
                    for number in range(10)
                ]
            }

    full = [Message(str(number), "r", "", 1) for number in range(10)]
    queue: Any = Endless()
    gathered = Gatherer(queue, queue_url="q", seconds=lambda: 0.0).gather(full)
    assert len(gathered) == MOST_MESSAGES
    assert [one.gathered for one in gathered[:11]] == [False] * 10 + [True]
    assert gathered[-1].receive_count == 3
    seconds = iter([0.0, *(LONGEST_SECONDS * tenth / 10 for tenth in range(11))])
    assert len(Gatherer(queue, queue_url="q", seconds=lambda: next(seconds)).gather(full)) == 110


def test_a_message_that_is_delivered_twice_is_handled_once() -> None:
    class Repeating:
        def __init__(self) -> None:
            self.answers = [["0", "new"], []]

        def receive_message(self, **_: Any) -> dict[str, Any]:
            return {
                "Messages": [
                    {
                        "MessageId": name,
                        "ReceiptHandle": "later",
                        "Body": "",
                        "Attributes": {"ApproximateReceiveCount": "1"},
                    }
                    for name in self.answers.pop(0)
                ]
            }

    full = [Message(str(number), "first", "", 1) for number in range(10)]
    queue: Any = Repeating()
    gathered = Gatherer(queue, queue_url="q").gather(full)
    assert [one.message_id for one in gathered] == [*"0123456789", "new"]
    assert gathered[0].receipt_handle == "first"


def test_a_part_has_whole_fleets_the_most_urgent_first() -> None:
    going = [departing(f"i-{name}{number}", name) for name in "abcdefg" for number in range(30)]
    urgent = departing("i-urgent", "g", left=10)
    told = [[one.node.instance_id for one in part] for part in parts([*going, urgent])]
    assert told[0][0] == "i-urgent"
    assert [len(part) for part in told] == [181, 30]
    assert [len({key[2] for key in part} - {"u"}) for part in told] == [6, 1]
    assert [len(part) for part in parts([departing(f"i-{n}", "huge") for n in range(250)])] == [250]
    assert [len(part) for part in parts([departing(f"i-{n}", f"fleet-{n}") for n in range(12)])] == [10, 2]


def test_one_command_tells_fifty_nodes_of_any_fleets(aws: Aws, notice_event: Notice) -> None:
    nodes = [key for number in range(12) for key in aws.add_fleet(f"fleet-{number:02}", nodes=5)]
    drain = Drain(aws.ssm, document="SpotFailover-DrainNode")
    function = aws.notice_function(Step.DRAIN_COMMAND, drain, parts=parts_of_any_fleets)
    aws.send(*(json.dumps(notice_event(key)) for key in nodes))
    assert aws.deliver(function) == []
    assert [len(call["InstanceIds"]) for call in aws.journal.of("send_command")] == [50, 10]
