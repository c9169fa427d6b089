"""Every call of the sweeper failing in every way, a crash after each: the next sweep does what is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Entry
from spot_failover.outcomes import Outcome, Step
from spot_failover.timestamps import format_milliseconds

from tests.local.faults.functions import DeployedFunction, Invocation
from tests.local.faults.matrix import ACCESS_DENIED, ANSWER_LOST, ERRORS, FAULTS, ONCE, Fault
from tests.local.faults.plane import NOTICE_SECONDS, Plane
from tests.local.faults.playing import Case, Seen

SWEEPER = "sweep_incidents"
ACTIONS = (
    "dynamodb:Scan",
    "dynamodb:Query",
    "autoscaling:DescribeAutoScalingGroups",
    "ec2:DescribeInstances",
    "autoscaling:DetachInstances",
    "autoscaling:DescribeAutoScalingInstances",
    "ec2:TerminateInstances",
    "dynamodb:TransactWriteItems",
)
# Of the sweep below, in which every kind of work is to be done; the groups are asked about twice, and
# a request is written at once.
CALLS = 10
WHOLE = {
    Step.DEREGISTER: Outcome.DEREGISTERED,
    Step.DRAIN_COMMAND: Outcome.COMMANDED,
    Step.REPLACEMENT_REQUEST: Outcome.DETACHED,
    Step.DRAIN: Outcome.DRAINED,
    Step.REPLACEMENT: Outcome.IN_SERVICE,
}
PERIOD = 60
LONG_AGO, JUST_NOW = 1800, 10
"""Seconds since a notice: long past all that an incident waits for, and one that still runs."""


@pytest.fixture(scope="module")
def sweeper(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedFunction]:
    log: Path = tmp_path_factory.mktemp("sweeper") / "sweeper.log"
    function = DeployedFunction(plane.aws.control, SWEEPER, log)
    function.wait_until_ready()
    yield function
    function.stop()


@dataclass(frozen=True)
class Left:
    """What the events left over: a node that outlives its notice, and one that nobody has replaced."""

    orphan: str
    unreplaced: str
    bystander: str


@pytest.fixture
def left(plane: Plane) -> Iterator[Left]:
    fleet = next(iter(plane))
    found = Left(
        orphan=plane.instance(fleet=fleet.name),
        unreplaced=plane.fleets.take(fleet),
        bystander=plane.instance(fleet=fleet.name),
    )
    yield found
    plane.fleets.end([found.orphan, found.bystander])


def tell(
    plane: Plane, node: str, outcomes: dict[Step, Outcome], *, ago: float, notice: float = NOTICE_SECONDS
) -> None:
    """Write an incident whose notice came so many seconds ago, and lasts so many."""
    noticed_at = plane.moment(plane.clock.now - ago)
    launched = {"instance_id": plane.unknown_id(), "launched_at": format_milliseconds(noticed_at)}
    table = IncidentTable(plane.aws.client("dynamodb"), table=plane.table, ttl=timedelta(days=1))
    table.write(
        Entry(
            incident=node,
            fleet=next(iter(plane)).name,
            at=noticed_at + timedelta(seconds=2),
            step=step,
            outcome=outcome,
            noticed_at=noticed_at,
            deadline=noticed_at + timedelta(seconds=notice),
            detail=launched if step is Step.REPLACEMENT else {},
        )
        for step, outcome in outcomes.items()
    )


def begin(plane: Plane, left: Left) -> None:
    tell(plane, left.orphan, WHOLE, ago=LONG_AGO)
    failed = {Step.DEREGISTER: Outcome.DEREGISTERED, Step.REPLACEMENT_REQUEST: Outcome.FAILED}
    # As long as two sweeps take, which EC2 does not give, so that what the first left is to be seen.
    tell(plane, left.unreplaced, failed, ago=JUST_NOW, notice=4 * PERIOD)


def sweep(plane: Plane, sweeper: DeployedFunction, *, crash_after: int | None = None) -> Invocation:
    plane.clock.skip(PERIOD)
    return sweeper.invoke({}, at=plane.clock.now, crash_after=crash_after)


def all_is_done(plane: Plane, seen: Seen, left: Left, *, on_record: bool = True) -> None:
    answer = plane.aws.client("ec2").describe_instances(InstanceIds=[left.orphan, left.bystander])
    states = {
        instance["InstanceId"]: instance["State"]["Name"]
        for reservation in answer["Reservations"]
        for instance in reservation["Instances"]
    }
    assert states == {left.orphan: "terminated", left.bystander: "running"}
    closings = [one for one in seen.entries if one.get("step") == "close"]
    assert [(one["incident"], one["outcome"]) for one in closings] == [(left.orphan, "closed")]
    assert seen.effects.detached == {left.unreplaced: 1}
    requested = {
        one["outcome"]
        for one in seen.entries
        if (one["incident"], one.get("step")) == (left.unreplaced, "replacement_request")
    }
    # A detach whose record was lost is not told again: the node is in no group any more.
    assert requested & {"detached", "already_detached"} or not on_record


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
@pytest.mark.parametrize("action", ACTIONS)
def test_what_a_sweep_could_not_do_the_next_one_does(
    plane: Plane, sweeper: DeployedFunction, left: Left, action: str, fault: Fault
) -> None:
    with Case(plane, "request_replacement") as case:
        begin(plane, left)
        error = ERRORS[action.split(":", maxsplit=1)[0]][fault.error] if fault.error else ""
        plane.aws.control.inject_fault(
            action, error, count=fault.calls, lost=fault.lost, takes_effect=fault.takes_effect
        )
        first = sweep(plane, sweeper)
        assert first.ended is None
        if fault is ACCESS_DENIED:
            assert first.error, "somebody must look, and the alarm counts errors"
        plane.aws.control.clear_faults()
        for _ in range(3):
            assert sweep(plane, sweeper).error is None
        sweeper.end_environment()
        seen = case.look()
        lost = action == "dynamodb:TransactWriteItems" and fault not in (ONCE, ANSWER_LOST)
        all_is_done(plane, seen, left, on_record=not lost)
        refusals = {action, "dynamodb:PutItem"} if fault is ACCESS_DENIED else set()
        case.nothing_else_happened(seen, nodes=[left.orphan, left.unreplaced], messages=[], refusals=refusals)


@pytest.mark.parametrize("call", range(1, CALLS + 1))
def test_what_a_crashed_sweep_left_the_next_one_does(
    plane: Plane, sweeper: DeployedFunction, left: Left, call: int
) -> None:
    with Case(plane, "request_replacement") as case:
        begin(plane, left)
        assert sweep(plane, sweeper, crash_after=call).ended == "crashed"
        for _ in range(3):
            assert sweep(plane, sweeper).error is None
        sweeper.end_environment()
        seen = case.look()
        all_is_done(plane, seen, left, on_record=False)
        case.nothing_else_happened(seen, nodes=[left.orphan, left.unreplaced], messages=[])


def test_every_call_of_a_sweep_has_its_crash(plane: Plane, sweeper: DeployedFunction, left: Left) -> None:
    with Case(plane, "request_replacement"):
        begin(plane, left)
        calls = sweep(plane, sweeper).calls
        sweeper.end_environment()
        assert len(calls) == CALLS, calls
