"""track_incident: what nodes report reaches their incidents, and a lying node reaches no other's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spot_failover.errors import MalformedMessageError
from spot_failover.incidents import Entry, Incident, fold
from spot_failover.outcomes import Outcome, Step
from spot_failover.timestamps import format_milliseconds
from track_incident.events import parse_tracked_event
from track_incident.node_events import LONGEST_REASON, NodeBootFailed
from track_incident.track_function import TrackFunction

from tests.unit.lambdas.fake_aws import NOTICED, Aws, sample_event

Metrics = Callable[[], dict[tuple[str, str], list[float]]]
NEW = "i-00000000000000001"
COMMAND = "e8d3c0e4-71f7-4491-898f-c9b35bee5f3b"
READY, BOOT_FAILED = sample_event("node_ready"), sample_event("node_boot_failed")
ENGINE_FAILED, DRAINED = sample_event("node_engine_failed"), sample_event("node_drained")


@pytest.fixture
def function(aws: Aws) -> TrackFunction:
    return TrackFunction(
        settings=aws.settings,
        autoscaling=aws.autoscaling,
        ssm=aws.ssm,
        sqs=aws.sqs,
        dynamodb=aws.dynamodb,
    )


@pytest.fixture
def node(aws: Aws) -> str:
    """Return a node whose replacement was asked for."""
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.table.write([entry(node, Step.REPLACEMENT_REQUEST, Outcome.DETACHED, at(1))])
    return node


def at(seconds: float) -> datetime:
    return NOTICED + timedelta(seconds=seconds)


def entry(node: str, step: Step, outcome: Outcome, when: datetime, **detail: Any) -> Entry:
    return Entry(
        incident=node,
        fleet="chat",
        at=when,
        step=step,
        outcome=outcome,
        noticed_at=NOTICED,
        deadline=at(120),
        detail=detail,
    )


def launch(aws: Aws, node: str, *, start: float = 1.9, end: float = 49.4) -> None:
    """Record that NEW came into service in the node's place."""
    detail = {"instance_id": NEW, "launched_at": format_milliseconds(at(start))}
    aws.table.write([entry(node, Step.REPLACEMENT, Outcome.IN_SERVICE, at(end), **detail)])


def told(event: dict[str, Any], instance_id: str, **changes: Any) -> dict[str, Any]:
    """Return a sample event as this node tells it."""
    detail = {**event["detail"], "instance-id": instance_id, **changes}
    if "outcome" in detail:
        detail["outcome"] = {
            **event["detail"]["outcome"],
            "instance_id": instance_id,
            **changes.get("outcome", {}),
        }
    return {**event, "detail": detail}


def commanded(aws: Aws, node: str, report: dict[str, Any] | None) -> dict[str, Any]:
    """Return the event of a drain command that ended with this report, or with none."""
    output = {"Output": f"{json.dumps(report) if report else ''}\nsignal 9"}
    aws.systems_manager.outputs[COMMAND, node] = output
    sample = sample_event("ssm_command_invocation_status_change")
    return {**sample, "detail": {**sample["detail"], "command-id": COMMAND, "instance-id": node}}


def known(aws: Aws, node: str) -> Incident:
    incident = aws.incident(node)
    assert incident is not None
    return incident


def test_a_replacements_boot_splits_the_recovery_into_parts_that_add_up(
    aws: Aws, function: TrackFunction, node: str, metrics: Metrics
) -> None:
    launch(aws, node)
    aws.send(told(READY, NEW))
    assert aws.deliver(function) == []
    incident = known(aws, node)
    parts = incident.recovery_parts
    assert parts is not None
    assert list(parts) == [
        "launch",
        "machine",
        "kernel",
        "user_data",
        "fetch",
        "engine",
        "warm_up",
        "in_service",
    ]
    assert (parts["launch"], parts["machine"]) == (1.9, 4.28)
    assert incident.recovery_seconds is not None
    assert abs(sum(parts.values()) - incident.recovery_seconds) < 1
    assert incident.replacement_booted_at == at(6.18)
    assert incident.outcomes[Step.BOOT] is Outcome.BOOTED
    assert set(metrics()) == {("chat", "boot.booted"), ("chat", "boot.seconds")}


@given(
    launched=st.floats(0, 7200),
    machine=st.floats(0, 600),
    path=st.dictionaries(
        st.sampled_from(["kernel", "fetch", "engine", "later"]), st.floats(0, 900), min_size=1
    ),
)
def test_the_parts_are_the_time_from_the_notice_to_the_end_of_the_boot(
    launched: float, machine: float, path: dict[str, float]
) -> None:
    boot = {
        "instance_id": NEW,
        "booted_at": format_milliseconds(at(launched + machine)),
        "path": path,
    }
    detail = {"instance_id": NEW, "launched_at": format_milliseconds(at(launched))}
    end = launched + machine + sum(path.values())
    incident = fold(
        [
            entry("i-1", Step.BOOT, Outcome.BOOTED, at(end + 1), **boot),
            entry("i-1", Step.REPLACEMENT, Outcome.IN_SERVICE, at(end), **detail),
        ]
    )
    assert incident.recovery_parts is not None
    assert incident.recovery_seconds is not None
    assert abs(sum(incident.recovery_parts.values()) - incident.recovery_seconds) < 0.01
    assert set(incident.recovery_parts) == {"launch", "machine", *path}


def test_a_boot_of_another_instance_is_no_part_of_the_recovery(aws: Aws, node: str) -> None:
    launch(aws, node)
    boot = {"booted_at": format_milliseconds(at(6)), "path": {"kernel": 1.0}}
    aws.table.write(
        [entry(node, Step.BOOT, Outcome.BOOTED, at(50), instance_id="i-00000000000000009", **boot)]
    )
    assert known(aws, node).recovery_parts is None


def test_a_boot_that_overtakes_its_launch_is_tried_again(
    aws: Aws, function: TrackFunction, node: str
) -> None:
    aws.send(told(READY, NEW))
    assert len(aws.deliver(function)) == 1
    launch(aws, node)
    assert aws.deliver(function) == []
    assert known(aws, node).outcomes[Step.BOOT] is Outcome.BOOTED


def test_a_boot_of_a_scale_out_is_let_go_in_the_end(aws: Aws, function: TrackFunction, node: str) -> None:
    aws.send(told(READY, NEW))
    assert [len(aws.deliver(function)) for _ in range(3)] == [1, 1, 0]
    assert aws.dead_letters() == []
    assert known(aws, node).boot_phases is None


def test_a_boot_told_again_changes_and_counts_nothing(
    aws: Aws, function: TrackFunction, node: str, metrics: Metrics
) -> None:
    launch(aws, node)
    later = told(READY, NEW, at="2026-11-23T13:58:49.412Z")
    aws.send(told(READY, NEW), told(READY, NEW))
    assert aws.deliver(function) == []
    aws.send(later)
    assert aws.deliver(function) == []
    assert [one.step for one in known(aws, node).entries].count(Step.BOOT) == 1
    counted = metrics()
    assert counted["chat", "boot.booted"] == [1]
    assert counted["chat", "boot.already_reported"] == [1, 1]


def test_a_failed_boot_is_told_to_the_incident_that_waits_longest(
    aws: Aws, function: TrackFunction, node: str
) -> None:
    aws.send(*[told(BOOT_FAILED, NEW)] * 2)
    assert aws.deliver(function) == []
    incident = known(aws, node)
    assert incident.awaits_replacement
    assert incident.outcomes[Step.BOOT] is Outcome.BOOT_FAILED
    (boot,) = [one for one in incident.entries if one.step is Step.BOOT]
    assert (boot.detail["instance_id"], boot.detail["phase"]) == (NEW, "image")
    assert boot.detail["reason"] == "image took longer than 900 s"


def test_a_replacement_that_boots_after_another_failed_is_the_one_that_counts(
    aws: Aws, function: TrackFunction, node: str
) -> None:
    aws.send(told(BOOT_FAILED, "i-00000000000000002"))
    assert aws.deliver(function) == []
    launch(aws, node, end=1000)
    aws.send(told(READY, NEW))
    assert aws.deliver(function) == []
    assert known(aws, node).outcomes[Step.BOOT] is Outcome.BOOTED
    assert known(aws, node).boot_phases is not None


def test_two_boots_that_fail_in_one_batch_are_both_counted(
    aws: Aws, function: TrackFunction, node: str, metrics: Metrics
) -> None:
    aws.send(told(BOOT_FAILED, NEW), told(BOOT_FAILED, "i-00000000000000002", at="2026-11-23T13:53:18.200Z"))
    assert aws.deliver(function) == []
    assert metrics()["chat", "boot.boot_failed"] == [1, 1]


def test_a_failed_boot_of_a_node_that_nobody_waits_for_is_no_incidents(
    aws: Aws, function: TrackFunction, metrics: Metrics
) -> None:
    aws.add_fleet("chat", nodes=1)
    aws.send(told(BOOT_FAILED, NEW))
    assert aws.deliver(function) == []
    assert metrics() == {("chat", "boot.not_a_replacement"): [1]}


def test_a_drain_is_known_though_run_command_never_came(
    aws: Aws, function: TrackFunction, node: str, metrics: Metrics
) -> None:
    aws.send(told(DRAINED, node))
    assert aws.deliver(function) == []
    incident = known(aws, node)
    assert incident.outcomes[Step.DRAIN] is Outcome.DRAINED
    assert (incident.drain_started_at, incident.drained_at) == (at(1.1), at(31.6))
    assert (incident.in_flight_at_notice, incident.cut_requests) == (6, 0)
    assert metrics()["chat", "drain.in_flight"] == [6]


@pytest.mark.parametrize("command_first", [True, False])
@pytest.mark.parametrize("one_batch", [True, False])
@pytest.mark.parametrize("outcome", ["drained", "cut"])
def test_two_reports_of_one_drain_are_one_drain_whichever_comes_first(
    aws: Aws,
    function: TrackFunction,
    node: str,
    metrics: Metrics,
    command_first: bool,
    one_batch: bool,
    outcome: str,
) -> None:
    own = told(DRAINED, node, outcome={"outcome": outcome, "cut": 0 if outcome == "drained" else 2})
    both = [commanded(aws, node, own["detail"]["outcome"]), own]
    for batch in [both] if one_batch else [[one] for one in both]:
        aws.send(*(batch if command_first else reversed(batch)))
    while aws.waiting():
        assert aws.deliver(function) == []
    incident = known(aws, node)
    assert incident.outcomes[Step.DRAIN] is Outcome(outcome)
    assert [one.step for one in incident.entries].count(Step.DRAIN) == 1
    assert len(metrics()["chat", f"drain.{outcome}"]) == 1


@pytest.mark.parametrize("command_first", [True, False])
@pytest.mark.parametrize("outcome", ["drained", "cut"])
def test_a_nodes_own_report_stands_where_its_command_left_none(
    aws: Aws, function: TrackFunction, node: str, command_first: bool, outcome: str
) -> None:
    events = [commanded(aws, node, None), told(DRAINED, node, outcome={"outcome": outcome, "cut": 1})]
    for event in events if command_first else reversed(events):
        aws.send(event)
        assert aws.deliver(function) == []
    incident = known(aws, node)
    assert incident.outcomes[Step.DRAIN] is Outcome(outcome)
    assert incident.drained_at == at(31.6)


@pytest.mark.parametrize("command_first", [True, False])
def test_what_run_command_brings_is_believed_over_an_event(
    aws: Aws, function: TrackFunction, node: str, command_first: bool
) -> None:
    true = {
        **DRAINED["detail"]["outcome"],
        "outcome": "cut",
        "cut": 3,
        "finished_at": "2026-11-23T13:39:52.000Z",
    }
    events = [commanded(aws, node, true), told(DRAINED, node)]
    for event in events if command_first else reversed(events):
        aws.send(event)
        assert aws.deliver(function) == []
    assert (known(aws, node).outcomes[Step.DRAIN], known(aws, node).cut_requests) == (Outcome.CUT, 3)


def test_a_drain_nobody_asked_for_is_let_go_in_the_end(aws: Aws, function: TrackFunction) -> None:
    (node,) = aws.add_fleet("chat", nodes=1)
    aws.send(told(DRAINED, node))
    assert [len(aws.deliver(function)) for _ in range(3)] == [1, 1, 0]
    assert aws.incident(node) is None


def test_an_engine_that_fails_is_counted_and_is_no_incidents(
    aws: Aws, function: TrackFunction, node: str, metrics: Metrics
) -> None:
    before = known(aws, node)
    aws.send(told(ENGINE_FAILED, node))
    assert aws.deliver(function) == []
    assert metrics() == {("chat", "engine.failed"): [1]}
    assert known(aws, node) == before


@pytest.mark.parametrize("event", [READY, BOOT_FAILED, ENGINE_FAILED, DRAINED])
def test_a_fleet_that_does_not_exist_makes_no_metric_and_no_entry(
    aws: Aws, function: TrackFunction, node: str, metrics: Metrics, event: dict[str, Any]
) -> None:
    before = known(aws, node)
    aws.send(told(event, node, fleet="invented"))
    assert aws.deliver(function) == []
    assert [(fleet, name.split(".")[1]) for fleet, name in metrics()] == [("none", "foreign")]
    assert known(aws, node) == before


def test_a_node_cannot_report_for_an_incident_of_another_fleet(
    aws: Aws, function: TrackFunction, node: str
) -> None:
    aws.add_fleet("search", nodes=1)
    launch(aws, node)
    before = known(aws, node)
    aws.send(told(DRAINED, node, fleet="search"))
    assert aws.deliver(function) == []
    aws.send(told(READY, NEW, fleet="search"))
    assert [len(aws.deliver(function)) for _ in range(3)] == [1, 1, 0]
    assert known(aws, node) == before


@pytest.mark.parametrize("event", [READY, BOOT_FAILED, ENGINE_FAILED])
def test_a_fleet_that_cannot_be_looked_up_brings_the_message_back(
    aws: Aws, function: TrackFunction, node: str, event: dict[str, Any]
) -> None:
    aws.journal.fail("describe_auto_scaling_groups", "ThrottlingException", times=1)
    aws.send(told(event, node))
    assert len(aws.deliver(function)) == 1


def with_boot(event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return told(event, NEW, boot={**event["detail"]["boot"], **changes})


PHASE = READY["detail"]["boot"]["phases"][0]


@pytest.mark.parametrize(
    "event",
    [
        told(READY, "i-XYZ"),
        told(READY, NEW, fleet=""),
        told(READY, NEW, fleet="x" * 129),
        told(READY, NEW, fleet=["chat"]),
        told(READY, NEW, at="0001-01-01T00:00:00Z"),
        told(READY, NEW, at="9999-12-31T23:59:59Z"),
        told(READY, NEW, boot=None),
        with_boot(READY, booted_at=None),
        with_boot(READY, booted_at="yesterday"),
        with_boot(READY, path={}),
        with_boot(READY, path=[1]),
        with_boot(READY, path={"kernel": -1}),
        with_boot(READY, path={"kernel": float("nan")}),
        with_boot(READY, path={"kernel": float("inf")}),
        with_boot(READY, path={"kernel": True}),
        with_boot(READY, path={"kernel": "1"}),
        with_boot(READY, path={"Kernel!": 1}),
        with_boot(READY, path={f"p{number}": 1 for number in range(17)}),
        with_boot(READY, phases=[PHASE] * 17),
        with_boot(READY, phases=["kernel"]),
        with_boot(READY, phases=[{**PHASE, "seconds": None}]),
        told(BOOT_FAILED, NEW, phase="no such phase"),
        told(BOOT_FAILED, NEW, reason=None),
        told(ENGINE_FAILED, NEW, restarts=-1),
        told(ENGINE_FAILED, NEW, restarts=True),
        told(ENGINE_FAILED, NEW, final="no"),
        told(DRAINED, NEW, outcome={"instance_id": "i-00000000000000002"}),
        told(DRAINED, NEW, outcome={"outcome": "fine"}),
        told(DRAINED, NEW, outcome={"finished_at": "0001-01-01T00:00:00Z"}),
        {**DRAINED, "detail-type": "Spot Failover Node Promoted"},
        {**DRAINED, "source": "spot-failover.nodes"},
    ],
)
def test_what_no_agent_writes_is_dead_lettered(
    aws: Aws, function: TrackFunction, event: dict[str, Any]
) -> None:
    aws.send(event)
    assert aws.deliver(function) == []
    ((_, reason),) = aws.dead_letters()
    assert reason.startswith("malformed: ")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    event=st.sampled_from([READY, BOOT_FAILED, ENGINE_FAILED, DRAINED]),
    field=st.sampled_from(["instance-id", "fleet", "at", "boot", "phase", "reason", "restarts", "outcome"]),
    value=ANY_JSON,
)
def test_whatever_stands_in_a_field_it_is_read_or_refused(
    event: dict[str, Any], field: str, value: Any
) -> None:
    body = json.dumps({**event, "detail": {**event["detail"], field: value}})
    with contextlib.suppress(MalformedMessageError):
        assert parse_tracked_event(body) is not None


def test_long_texts_and_further_fields_are_cut() -> None:
    phase = {**PHASE, "from": "x" * 65, "bytes": 5, **{f"f{number}": 1 for number in range(20)}}
    event = with_boot(BOOT_FAILED, phases=[phase])
    event["detail"]["reason"] = "x" * 10_000
    parsed = parse_tracked_event(json.dumps(event))
    assert isinstance(parsed, NodeBootFailed)
    assert len(parsed.reason) == LONGEST_REASON
    (kept,) = parsed.boot.phases
    assert "from" not in kept
    assert kept["bytes"] == 5
    assert len(kept) == 12
