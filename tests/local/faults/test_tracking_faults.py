"""Every call that a record needs, failing in every way: recorded at once, later, or dead-lettered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Entry
from spot_failover.outcomes import Outcome, Step
from spot_failover.timestamps import format_milliseconds

from tests.local.faults.fleets import BareFleet, wait_for
from tests.local.faults.matrix import ACCESS_DENIED
from tests.local.faults.plane import NOTICE_SECONDS, Plane
from tests.local.faults.playing import Case, Seen
from tests.local.faults.tracking_matrix import End, Kind, TrackingRow, rows

DRAIN_DOCUMENT = "SpotFailover-DrainNode"
RECORDED = {Kind.LAUNCH: ("replacement", "in_service"), Kind.COMMAND: ("drain", "drained")}


@pytest.fixture(scope="session")
def commands(plane: Plane) -> Mapping[str, str]:
    """Drain a node of each fleet, once; return the commands by the nodes' ids."""
    ssm = plane.aws.client("ssm")
    sent = {}
    for fleet in plane:
        node = plane.fleets.steady(fleet, 2)
        deadline = f"{node}@2026-12-31T00:00:00Z"
        answer = ssm.send_command(
            DocumentName=DRAIN_DOCUMENT, InstanceIds=[node], Parameters={"Deadlines": [deadline]}
        )
        sent[node] = str(answer["Command"]["CommandId"])

    def ended() -> bool:
        answers = [ssm.get_command_invocation(CommandId=one, InstanceId=node) for node, one in sent.items()]
        return {answer["Status"] for answer in answers} == {"Success"}

    wait_for("ends of the drains", ended)
    return sent


def told(plane: Plane, kind: Kind, fleet: BareFleet, commands: Mapping[str, str]) -> tuple[str, str]:
    """Put an incident on record; return its node's id and an event that belongs to it."""
    departing = plane.unknown_id() if kind is Kind.LAUNCH else plane.fleets.steady(fleet, 2)
    asked, outcome = (
        (Step.REPLACEMENT_REQUEST, Outcome.DETACHED)
        if kind is Kind.LAUNCH
        else (Step.DRAIN_COMMAND, Outcome.COMMANDED)
    )
    now = plane.moment()
    table = IncidentTable(plane.aws.client("dynamodb"), table=plane.table, ttl=timedelta(days=1))
    table.write(
        [
            Entry(
                incident=departing,
                fleet=fleet.name,
                at=now,
                step=asked,
                outcome=outcome,
                noticed_at=now,
                deadline=now + timedelta(seconds=NOTICE_SECONDS),
            )
        ]
    )
    if kind is Kind.COMMAND:
        detail = {
            "command-id": commands[departing],
            "document-name": DRAIN_DOCUMENT,
            "instance-id": departing,
            "status": "Success",
        }
        return departing, plane.event("aws.ssm", "EC2 Command Invocation Status-change Notification", detail)
    later = plane.clock.now + 5
    detail = {
        "AutoScalingGroupName": fleet.group,
        "EC2InstanceId": plane.unknown_id(),
        "StartTime": format_milliseconds(now + timedelta(seconds=1)),
        "EndTime": format_milliseconds(plane.moment(later)),
        "StatusCode": "InProgress",
    }
    return departing, plane.event("aws.autoscaling", "EC2 Instance Launch Successful", detail, at=later)


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.name)
def test_an_event_is_on_record_once_however_its_calls_fail(
    plane: Plane, commands: Mapping[str, str], row: TrackingRow
) -> None:
    with Case(plane, "track_incident") as case:
        events = [told(plane, row.kind, fleet, commands) for fleet in plane]
        plane.clock.skip(10)
        plane.aws.control.inject_fault(
            row.action,
            row.error,
            count=row.fault.calls,
            spared=row.position,
            lost=row.fault.lost,
            takes_effect=row.fault.takes_effect,
        )
        case.driver.send(*(body for _, body in events))
        case.driver.run(case.delivered, singly=len(events), before_each=partial(cold, case))
        seen = case.look()
        for number, (incident, body) in enumerate(events):
            ended_as(row, row.end_of(number), seen, incident, body)
        refusals = {row.action} if row.fault is ACCESS_DENIED else set()
        if row.action == "dynamodb:TransactWriteItems":
            refusals.add("dynamodb:PutItem")
        bodies = [body for _, body in events]
        nodes = [incident for incident, _ in events] + [
            one["incident"] for one in seen.entries if one["incident"].startswith("claim#")
        ]
        case.nothing_else_happened(seen, nodes=nodes, messages=bodies, refusals=refusals)
        assert not seen.effects.touched


def cold(case: Case, messages: Sequence[Mapping[str, Any]]) -> None:
    """Let a new message be a cold environment's, which has to ask for everything."""
    if any(message["Body"] not in case.delivered.receptions for message in messages):
        case.driver.function.end_environment()


def ended_as(row: TrackingRow, end: End, seen: Seen, incident: str, body: str) -> None:
    step, outcome = RECORDED[row.kind]
    own = [one for one in seen.entries if one["incident"] == incident]
    entries = [one["outcome"] for one in own if one.get("step") == step]
    letter = seen.dead_letter_of(body)
    if end is End.DEAD:
        assert entries == []
        assert letter is not None
        assert letter["attributes"]["reason"].startswith("failed: ")
        return
    assert letter is None
    assert entries == [outcome]
    assert (seen.receptions_of(body) > 1) is (end is End.LATER)


def test_a_record_that_never_succeeds_is_dead_lettered_by_its_queue(plane: Plane) -> None:
    with Case(plane, "track_incident") as case:
        incident, body = told(plane, Kind.LAUNCH, next(iter(plane)), {})
        plane.aws.control.inject_fault("dynamodb:Query", "ThrottlingException")
        case.driver.send(body)
        case.driver.run(case.delivered)
        seen = case.look()
        assert seen.receptions_of(body) == case.driver.most_receptions()
        assert seen.dead_letter_of(body) is not None
        case.nothing_else_happened(seen, nodes=[incident], messages=[body])


@pytest.fixture(scope="module")
def silent_command(plane: Plane) -> tuple[str, str]:
    """Run a command that succeeds and drains nothing; return its node and its id."""
    ssm = plane.aws.client("ssm")
    node = plane.fleets.steady(next(iter(plane)), 2)
    answer = ssm.send_command(
        DocumentName="AWS-RunShellScript", InstanceIds=[node], Parameters={"commands": ["true"]}
    )
    command_id = str(answer["Command"]["CommandId"])

    def ended() -> bool:
        found = ssm.get_command_invocation(CommandId=command_id, InstanceId=node)
        return bool(found["Status"] == "Success")

    wait_for("end of the command", ended)
    return node, command_id


@pytest.mark.parametrize("status", ["Success", "Failed", "TimedOut", "Cancelled"])
def test_a_command_that_ended_without_a_drain_is_on_record_as_unreported(
    plane: Plane, silent_command: tuple[str, str], status: str
) -> None:
    with Case(plane, "track_incident") as case:
        node, command_id = silent_command
        told(plane, Kind.COMMAND, next(iter(plane)), {node: command_id})
        detail = {
            "command-id": command_id,
            "document-name": DRAIN_DOCUMENT,
            "instance-id": node,
            "status": status,
        }
        body = plane.event("aws.ssm", "EC2 Command Invocation Status-change Notification", detail)
        case.driver.send(body)
        case.driver.run(case.delivered)
        seen = case.look()
        drains = [one["outcome"] for one in seen.entries if one.get("step") == "drain"]
        assert drains == ["unreported"]
        case.nothing_else_happened(seen, nodes=[node], messages=[body])


def test_what_is_told_of_a_node_without_an_incident_is_let_go(
    plane: Plane, commands: Mapping[str, str]
) -> None:
    with Case(plane, "track_incident") as case:
        node, command_id = next(iter(commands.items()))
        detail = {
            "command-id": command_id,
            "document-name": DRAIN_DOCUMENT,
            "instance-id": node,
            "status": "Success",
        }
        body = plane.event("aws.ssm", "EC2 Command Invocation Status-change Notification", detail)
        case.driver.send(body)
        case.driver.run(case.delivered)
        seen = case.look()
        assert seen.entries == []
        case.nothing_else_happened(seen, nodes=[], messages=[])
