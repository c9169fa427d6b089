"""track_incident: drains and launches find their incident, once, whatever the order and number of events."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from spot_failover.incident_table import Claim
from spot_failover.incidents import Entry, Incident, fold
from spot_failover.outcomes import Outcome, Step
from spot_failover.timestamps import format_milliseconds
from track_incident.matching import awaiting
from track_incident.track_function import TrackFunction

from tests.unit.lambdas.fake_aws import NOTICED, Aws, sample_event
from tests.unit.lambdas.fake_services import client_error

Metrics = Callable[[], dict[tuple[str, str], list[float]]]
COMMAND = "e8d3c0e4-71f7-4491-898f-c9b35bee5f3b"
REPORT = {
    "instance_id": "i-1",
    "trigger": "command",
    "started_at": "2026-11-23T13:38:01.100Z",
    "finished_at": "2026-11-23T13:38:31.600+00:00",
    "seconds": 30.5,
    "deadline": "2026-11-23T13:40:00Z",
    "in_flight_at_start": 6,
    "finished": 6,
    "cut": 0,
    "engine_exit": "graceful",
    "outcome": "drained",
}


@pytest.fixture
def function(aws: Aws) -> TrackFunction:
    return TrackFunction(
        settings=aws.settings,
        autoscaling=aws.autoscaling,
        ssm=aws.ssm,
        sqs=aws.sqs,
        dynamodb=aws.dynamodb,
    )


def at(seconds: float) -> datetime:
    return NOTICED + timedelta(seconds=seconds)


def entry(
    node: str,
    *,
    noticed: float = 0,
    step: Step = Step.REPLACEMENT_REQUEST,
    outcome: Outcome = Outcome.DETACHED,
) -> Entry:
    return Entry(
        incident=node,
        fleet="chat",
        at=at(noticed + 1),
        step=step,
        outcome=outcome,
        noticed_at=at(noticed),
        deadline=at(noticed + 120),
    )


def launched(instance_id: str, *, start: float = 2, end: float = 90, fleet: str = "chat") -> dict[str, Any]:
    sample = sample_event("asg_launch_successful")
    detail = {
        **sample["detail"],
        "AutoScalingGroupName": f"spot-failover-{fleet}",
        "EC2InstanceId": instance_id,
        "StartTime": format_milliseconds(at(start)),
        "EndTime": format_milliseconds(at(end)),
    }
    return {**sample, "detail": detail}


def launch_failed(*, fleet: str = "chat") -> dict[str, Any]:
    sample = sample_event("asg_launch_unsuccessful")
    detail = {
        **sample["detail"],
        "AutoScalingGroupName": f"spot-failover-{fleet}",
        "EC2InstanceId": "",
        "StatusMessage": "no Spot capacity",
    }
    return {**sample, "detail": detail}


def command_ended(node: str, *, status: str = "Success") -> dict[str, Any]:
    sample = sample_event("ssm_command_invocation_status_change")
    detail = {**sample["detail"], "command-id": COMMAND, "instance-id": node, "status": status}
    return {**sample, "detail": detail}


def known(aws: Aws, node: str) -> Incident:
    incident = aws.incident(node)
    assert incident is not None
    return incident


def test_a_throttled_claim_brings_its_launch_back(
    aws: Aws, function: TrackFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.table.write([entry(node)])
    enter = aws.journal.enter

    def throttled(operation: str, parameters: dict[str, Any]) -> None:
        if operation == "transact_write_items":
            error = client_error("TransactWriteItems", "TransactionCanceledException")
            error.response["CancellationReasons"] = [{"Code": "None"}, {"Code": "ThrottlingError"}]
            raise error
        enter(operation, parameters)

    aws.send(launched("i-00000000000000001"))
    monkeypatch.setattr(aws.journal, "enter", throttled)
    assert len(aws.deliver(function)) == 1
    monkeypatch.setattr(aws.journal, "enter", enter)
    assert aws.deliver(function) == []
    assert known(aws, node).replacement_instance_id == "i-00000000000000001"


def test_a_failed_lookup_of_groups_fails_no_nodes_event(aws: Aws, function: TrackFunction) -> None:
    aws.add_fleet("chat", nodes=1)
    aws.journal.fail(
        "describe_auto_scaling_groups", "AccessDenied", when=lambda call: "AutoScalingGroupNames" in call
    )
    failed = sample_event("node_engine_failed")
    aws.send(launched("i-00000000000000001"), failed)
    assert aws.deliver(function) == []
    assert [body for body, _ in aws.dead_letters()] == [json.dumps(launched("i-00000000000000001"))]


def test_an_entry_that_the_table_refuses_takes_no_other_with_it(aws: Aws, function: TrackFunction) -> None:
    first, second = aws.add_fleet("chat", nodes=2)
    aws.table.write([entry(first), entry(second)])
    aws.journal.fail(
        "batch_write_item",
        "ValidationException",
        when=lambda call: any(
            one["PutRequest"]["Item"]["incident"]["S"] == first for one in call["RequestItems"]["incidents"]
        ),
    )
    for node in (first, second):
        aws.systems_manager.outputs[COMMAND, node] = {"Output": json.dumps({**REPORT, "instance_id": node})}
    aws.send(command_ended(first), command_ended(second))
    assert aws.deliver(function) == []
    assert [body for body, _ in aws.dead_letters()] == [json.dumps(command_ended(first))]
    assert known(aws, second).outcomes[Step.DRAIN] is Outcome.DRAINED


def test_a_launch_ends_the_incident_with_recovery_from_the_activitys_own_times(
    aws: Aws, function: TrackFunction, metrics: Metrics
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.table.write([entry(node)])
    aws.send(launched("i-00000000000000001", start=2.412, end=91.021))
    assert aws.deliver(function) == []
    incident = known(aws, node)
    assert incident.replacement_instance_id == "i-00000000000000001"
    assert incident.replacement_launched_at == at(2.412)
    assert incident.replacement_in_service_at == at(91.021)
    assert incident.recovery_seconds == 91.021
    assert metrics() == {
        ("chat", "replacement.in_service"): [1],
        ("chat", "replacement.seconds"): [91.021],
    }


def test_repeats_of_a_launch_change_nothing(aws: Aws, function: TrackFunction) -> None:
    first, second = aws.add_fleet("chat", nodes=2)
    aws.table.write([entry(first), entry(second, noticed=1)])
    for _ in range(3):
        aws.send(*[launched("i-00000000000000001")] * 2)
        assert aws.deliver(function) == []
    assert known(aws, first).replacement_instance_id == "i-00000000000000001"
    assert known(aws, second).replacement_instance_id is None


def test_two_launches_of_one_batch_end_two_incidents_the_oldest_first(
    aws: Aws, function: TrackFunction
) -> None:
    young, old = aws.add_fleet("chat", nodes=2)
    aws.table.write([entry(young, noticed=1), entry(old)])
    aws.send(launched("i-00000000000000001"), launched("i-00000000000000002"))
    assert aws.deliver(function) == []
    replacements = {known(aws, young).replacement_instance_id, known(aws, old).replacement_instance_id}
    assert replacements == {"i-00000000000000001", "i-00000000000000002"}


def test_a_lagging_index_cannot_give_a_node_two_replacements(aws: Aws, function: TrackFunction) -> None:
    first, second = aws.add_fleet("chat", nodes=2)
    aws.table.write([entry(first), entry(second, noticed=1)])
    stale = [fold([entry(first)]), fold([entry(second, noticed=1)])]
    function._table.incidents_of_fleet = lambda *_, **__: stale  # type: ignore[method-assign]
    aws.send(launched("i-00000000000000001"))
    aws.deliver(function)
    aws.send(launched("i-00000000000000002"))
    aws.deliver(function)
    aws.send(launched("i-00000000000000002"), launched("i-00000000000000003"))
    assert aws.deliver(function) == []
    assert known(aws, first).replacement_instance_id == "i-00000000000000001"
    assert known(aws, second).replacement_instance_id == "i-00000000000000002"
    assert len(known(aws, second).entries) == 2


def test_launches_of_foreign_groups_and_scale_outs_leave_no_trace(
    aws: Aws, function: TrackFunction, metrics: Metrics
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.table.write([entry(node)])
    aws.send(
        launched("i-00000000000000001", fleet="somebody-elses"), launched("i-00000000000000002", start=-5)
    )
    assert aws.deliver(function) == []
    assert known(aws, node).replacement_instance_id is None
    counted = metrics()
    assert counted["none", "replacement.foreign"] == [1]
    assert counted["chat", "replacement.not_a_replacement"] == [1]


def test_failed_launches_are_told_once_each_and_do_not_end_the_incident(
    aws: Aws, function: TrackFunction
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.table.write([entry(node)])
    aws.send(*[launch_failed()] * 3, launch_failed(fleet="somebody-elses"))
    assert aws.deliver(function) == []
    incident = known(aws, node)
    assert incident.awaits_replacement
    assert [one.detail["reason"] for one in incident.entries if one.step is Step.LAUNCH_FAILED] == [
        "no Spot capacity"
    ]


def test_a_nodes_report_becomes_its_incidents_drain(
    aws: Aws, function: TrackFunction, metrics: Metrics
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.table.write([entry(node, step=Step.DRAIN_COMMAND, outcome=Outcome.COMMANDED)])
    output = f"joined a drain\n{json.dumps(REPORT)}\n"
    aws.systems_manager.outputs[COMMAND, node] = {"Output": output}
    aws.send(*[command_ended(node)] * 2)
    assert aws.deliver(function) == []
    incident = known(aws, node)
    assert incident.outcomes[Step.DRAIN] is Outcome.DRAINED
    assert incident.drain_started_at == at(1.1)
    assert incident.drained_at == at(31.6)
    assert (incident.in_flight_at_notice, incident.cut_requests) == (6, 0)
    assert len(incident.entries) == 2
    counted = metrics()
    assert counted["chat", "drain.in_flight"][0] == 6
    assert counted["chat", "drain.cut_requests"][0] == 0


def test_a_command_without_a_report_is_recorded_as_such(aws: Aws, function: TrackFunction) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.table.write([entry(node)])
    aws.systems_manager.outputs[COMMAND, node] = {"Output": "Killed\n----------ERROR-------\nsignal 9"}
    aws.send(command_ended(node, status="Failed"))
    assert aws.deliver(function) == []
    incident = known(aws, node)
    assert incident.outcomes[Step.DRAIN] is Outcome.UNREPORTED
    error = "Killed\n----------ERROR-------\nsignal 9"
    assert incident.entries[-1].detail == {"command_id": COMMAND, "status": "Failed", "error": error}


def test_a_command_that_still_runs_costs_no_call(aws: Aws, function: TrackFunction) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.send(command_ended(node, status="InProgress"))
    assert aws.deliver(function) == []
    assert aws.journal.calls == []


def test_an_operators_own_drain_is_waited_for_briefly_and_let_go(aws: Aws, function: TrackFunction) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.send(command_ended(node))
    assert [len(aws.deliver(function)) for _ in range(3)] == [1, 1, 0]
    assert aws.dead_letters() == []
    assert aws.incident(node) is None


def test_an_event_that_overtakes_its_record_is_tried_again(aws: Aws, function: TrackFunction) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.send(command_ended(node))
    assert len(aws.deliver(function)) == 1
    aws.table.write([entry(node)])
    assert len(aws.deliver(function)) == 1  # it is not listed yet
    aws.systems_manager.outputs[COMMAND, node] = {"Output": json.dumps(REPORT)}
    assert aws.deliver(function) == []
    assert known(aws, node).outcomes[Step.DRAIN] is Outcome.DRAINED


@pytest.mark.parametrize("operation", ["query", "transact_write_items", "describe_auto_scaling_groups"])
def test_a_throttled_launch_is_tried_again_and_a_malformed_message_is_not(
    aws: Aws, function: TrackFunction, operation: str
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.table.write([entry(node)])
    aws.journal.fail(operation, "ThrottlingException", times=1)
    aws.send(launched("i-00000000000000001"), {"source": "aws.autoscaling"})
    assert len(aws.deliver(function)) == 1
    assert [reason for _, reason in aws.dead_letters()] == ["malformed: detail is not an object"]
    assert aws.deliver(function) == []
    assert known(aws, node).replacement_instance_id == "i-00000000000000001"


def test_a_drain_that_cannot_be_recorded_comes_back(aws: Aws, function: TrackFunction) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.table.write([entry(node)])
    aws.systems_manager.outputs[COMMAND, node] = {"Output": json.dumps(REPORT)}
    aws.journal.fail("batch_write_item", "ThrottlingException", times=1)
    aws.send(command_ended(node))
    assert len(aws.deliver(function)) == 1
    assert aws.deliver(function) == []
    assert known(aws, node).outcomes[Step.DRAIN] is Outcome.DRAINED


@pytest.mark.parametrize(
    "body",
    [
        sample_event("ec2_spot_interruption_warning"),
        launched("i-XYZ"),
        launched("i-00000000000000001") | {"detail-type": "EC2 Instance Terminate Successful"},
        command_ended("i-00000000000000001", status="Exploded"),
        command_ended("mi-00000000000000001"),
    ],
)
def test_near_misses_are_dead_lettered(aws: Aws, function: TrackFunction, body: dict[str, Any]) -> None:
    aws.send(body)
    assert aws.deliver(function) == []
    ((_, reason),) = aws.dead_letters()
    assert reason.startswith("malformed: ")


def test_a_launch_prefers_asked_for_replacements_and_takes_dead_nodes_after_them() -> None:
    asked_late, asked_early = fold([entry("i-1", noticed=5)]), fold([entry("i-2")])
    failed = fold([entry("i-3", noticed=-200, outcome=Outcome.FAILED)])
    alive = fold([entry("i-4", outcome=Outcome.FAILED)])
    future = fold([entry("i-5", noticed=60)])
    candidates = awaiting([asked_late, failed, alive, asked_early, future], launched_at=at(10))
    assert [one.incident for one in candidates] == ["i-2", "i-1", "i-3"]


def calls(aws: Aws, *operations: str) -> list[int]:
    return [len(aws.journal.of(operation)) for operation in operations]


def test_the_drains_of_one_command_are_read_at_once(aws: Aws, function: TrackFunction) -> None:
    nodes = aws.add_fleet("chat", nodes=30)
    aws.table.write([entry(node, step=Step.DRAIN_COMMAND, outcome=Outcome.COMMANDED) for node in nodes])
    for node in nodes:
        aws.systems_manager.outputs[COMMAND, node] = {"Output": json.dumps(REPORT)}
    aws.send(*(command_ended(node) for node in nodes))
    assert aws.deliver(function) == []
    assert aws.waiting() == 0
    assert {known(aws, node).outcomes[Step.DRAIN] for node in nodes} == {Outcome.DRAINED}
    assert calls(aws, "list_command_invocations", "batch_write_item") == [1, 2]


def test_a_command_that_cannot_be_read_is_asked_for_once_in_a_batch(
    aws: Aws, function: TrackFunction
) -> None:
    nodes = aws.add_fleet("chat", nodes=5)
    aws.table.write([entry(node) for node in nodes])
    aws.journal.fail("list_command_invocations", "ThrottlingException")
    aws.send(*(command_ended(node) for node in nodes))
    assert len(aws.deliver(function)) == 5
    assert calls(aws, "list_command_invocations") == [1]


def test_a_drain_that_is_listed_as_running_is_not_taken_for_one_without_a_report(
    aws: Aws, function: TrackFunction
) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.table.write([entry(node)])
    aws.systems_manager.outputs[COMMAND, node] = {"Output": "", "Status": "InProgress"}
    aws.send(command_ended(node))
    assert len(aws.deliver(function)) == 1
    assert Step.DRAIN not in known(aws, node).outcomes


def test_the_launches_of_a_storm_share_one_query_for_each_fleet_and_replace_one_node_each(
    aws: Aws, function: TrackFunction
) -> None:
    nodes = [(name, node) for name in ("chat", "code") for node in aws.add_fleet(name, nodes=20)]
    aws.table.write([replace(entry(node), fleet=name) for name, node in nodes])
    aws.send(
        *(launched(f"i-{n:017x}", start=2 + n / 10, fleet=name) for n, (name, _) in enumerate(nodes, start=1))
    )
    assert aws.deliver(function) == []
    assert aws.waiting() == 0
    replacements = {known(aws, node).replacement_instance_id for _, node in nodes}
    assert replacements == {f"i-{n:017x}" for n in range(1, 41)}
    assert calls(aws, "query", "transact_write_items") == [2, 40]


def test_another_function_at_the_same_fleet_costs_a_look_and_no_second_replacement(
    aws: Aws, function: TrackFunction
) -> None:
    first, second = aws.add_fleet("chat", nodes=2)
    aws.table.write([entry(first), entry(second, noticed=1)])
    claim = function._table.claim_replacement

    def overtaken(entry: Entry, *, replacement: str) -> Claim:
        if replacement == "i-00000000000000001":  # somebody else gives the same node another one first
            other = "i-00000000000000009"
            claim(replace(entry, detail={**entry.detail, "instance_id": other}), replacement=other)
        return claim(entry, replacement=replacement)

    function._table.claim_replacement = overtaken  # type: ignore[method-assign]
    aws.send(launched("i-00000000000000001"), launched("i-00000000000000002"))
    assert aws.deliver(function) == []
    replaced = {known(aws, node).replacement_instance_id for node in (first, second)}
    assert replaced == {"i-00000000000000009", "i-00000000000000001"}


def test_an_invocation_that_takes_too_long_puts_the_rest_of_its_events_back(
    aws: Aws, metrics: Metrics
) -> None:
    times = iter([NOTICED, NOTICED, *[NOTICED + timedelta(seconds=s) for s in (3, 6, 9)], NOTICED])
    function = TrackFunction(
        settings=aws.settings,
        autoscaling=aws.autoscaling,
        ssm=aws.ssm,
        sqs=aws.sqs,
        dynamodb=aws.dynamodb,
        clock=lambda: next(times),
    )
    nodes = aws.add_fleet("chat", nodes=3)
    aws.table.write([entry(node) for node in nodes])
    aws.send(*(launched(f"i-{n:017x}") for n in range(3)))
    assert len(aws.deliver(function)) == 1
    assert metrics()["chat", "replacement.in_service"] == [1, 1]
