"""What the functions say to a node and what it says back is understood on both sides."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from drain_node.drain import deadlines_parameter
from spot_failover.departures import Departure
from spot_failover.fleets import Node
from spot_failover.incidents import BOOT_PARTS
from spot_failover.outcomes import Outcome
from track_incident import node_events
from track_incident.boot_report import read_boot_report
from track_incident.drain_report import parse_drain_report

from gpu_node_bootstrap.node_agent import reports
from gpu_node_bootstrap.node_agent.boot import BootRecord, Phase
from gpu_node_bootstrap.node_agent.deadlines import parse_deadlines
from gpu_node_bootstrap.node_agent.drain import DrainOutcome, EngineExit, Trigger
from tests.unit.lambdas.fake_aws import NOTICED


def test_the_node_reads_its_deadline_from_the_commands_parameter() -> None:
    ids = ["i-0123456789abcdef0", "i-01234567"]
    going = [
        Departure(Node(key, "chat", None), NOTICED, NOTICED + timedelta(seconds=120 + 30 * number))
        for number, key in enumerate(ids)
    ]
    assert parse_deadlines(deadlines_parameter(going)) == {
        one.node.instance_id: one.deadline.timestamp() for one in going
    }


@pytest.mark.parametrize(
    ("cut", "in_flight", "outcome"),
    [(0, 7, Outcome.DRAINED), (2, 7, Outcome.CUT), (None, None, Outcome.CUT)],
)
@pytest.mark.parametrize("engine_exit", list(EngineExit))
def test_the_function_reads_the_nodes_own_outcome(
    cut: int | None, in_flight: int | None, outcome: Outcome, engine_exit: EngineExit
) -> None:
    told = DrainOutcome(
        instance_id="i-0123456789abcdef0",
        trigger=Trigger.IMDS,
        started_at=NOTICED.timestamp() + 1.25,
        finished_at=NOTICED.timestamp() + 31.5,
        deadline=NOTICED.timestamp() + 120,
        in_flight_at_start=in_flight,
        finished=None,
        cut=cut,
        engine_exit=engine_exit,
    )
    report = parse_drain_report(json.dumps(told.to_json()) + "\n")
    assert report is not None
    assert report.outcome is outcome
    assert report.finished_at == NOTICED + timedelta(seconds=31.5)
    assert report.detail["started_at"] == "2026-11-23T13:38:01.250Z"
    assert report.detail["seconds"] == 30.25
    assert report.detail["engine_exit"] == engine_exit.value
    assert (report.detail.get("cut"), report.detail.get("in_flight_at_start")) == (cut, in_flight)


def test_the_function_knows_the_events_that_the_node_sends() -> None:
    assert reports.SOURCE == node_events.SOURCE
    assert {one.value for one in reports.Report} == {one.value for one in node_events.DetailType}


def test_the_function_reads_the_nodes_own_boot_in_the_order_of_its_path() -> None:
    record = BootRecord()
    moment = NOTICED.timestamp()
    for number, phase in enumerate(Phase):
        record.begin(phase, at=moment + number)
        record.end(phase, at=moment + number + 1, source="baked", bytes=7)
    told = record.to_json()
    boot = read_boot_report(json.loads(json.dumps(told)))
    assert boot.booted_at == NOTICED
    assert boot.path == told["path"]
    assert tuple(boot.path) == BOOT_PARTS
    assert [one["phase"] for one in boot.phases] == [phase.value for phase in Phase]
    assert all((one["source"], one["bytes"], one["seconds"]) == ("baked", 7, 1.0) for one in boot.phases)
