"""Every call that a notice needs, failing in every way, at the first, a middle and the last node of three."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.local.faults.matrix import End, Row, rows
from tests.local.faults.plane import Plane
from tests.local.faults.playing import Case, Effects, Seen, nodes_of

# Of each function: how its success is recorded, and what it changes.
SUCCESSES = {
    "deregister_target": {"deregistered", "not_registered"},
    "drain_node": {"commanded"},
    "request_replacement": {"detached", "already_detached"},
}
CHANGES: dict[str, Callable[[Effects, str], int]] = {
    "deregister_target": lambda effects, node: effects.deregistered[node],
    "drain_node": lambda effects, node: effects.commanded[node],
    "request_replacement": lambda effects, node: effects.detached[node],
}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_a_failing_call_ends_as_it_must_and_harms_nobody_else(plane: Plane, row: Row) -> None:
    case = Case(plane, row.call.function)
    case.begin()
    nodes = [node for _, node in nodes_of(plane, row.call.function)]
    now = plane.clock.now
    bodies = [plane.notice(node, at=now + number) for number, node in enumerate(nodes)]
    inject(plane, row)
    if row.call.each_fleet:
        case.driver.send(*bodies)
        case.driver.run(case.delivered)
    else:
        for body in bodies:
            if row.call.refused_first:
                plane.aws.control.inject_fault(row.call.refused_first, "ValidationError", count=1)
            case.driver.function.end_environment()  # one that is warm may know already what it would ask
            case.driver.send(body)
            case.driver.run(case.delivered)
    seen = case.look()
    for number, (node, body) in enumerate(zip(nodes, bodies, strict=True)):
        ended_as(row, row.end_of(number), seen, node, body)
    refusals = {row.call.action} if row.fault.name == "access denied" else set()
    case.nothing_else_happened(seen, nodes=nodes, messages=bodies, refusals=refusals)


def inject(plane: Plane, row: Row) -> None:
    plane.aws.control.inject_fault(
        row.call.action,
        row.call.error(row.fault),
        count=row.fault.calls,
        spared=row.position,
        lost=row.fault.lost,
        takes_effect=row.fault.takes_effect,
    )


def ended_as(row: Row, end: End, seen: Seen, node: str, body: str) -> None:
    function = row.call.function
    recorded = seen.outcomes.get(node, [])
    told = [outcome for outcome in recorded if outcome != "retrying"]
    changes = CHANGES[function](seen.effects, node)
    letter = seen.dead_letter_of(body)
    receptions = seen.receptions_of(body)
    match end:
        case End.AT_ONCE | End.LATER | End.UNRECORDED:
            assert letter is None
            assert changes >= 1
            assert changes == 1 or function == "drain_node", "done twice"
            assert (receptions > 1) is (end is End.LATER)
            if end is End.UNRECORDED:
                assert recorded == []
            else:
                assert len(told) == 1
                assert set(told) <= SUCCESSES[function]
        case End.MISSED:
            assert (letter, changes, told) == (None, 0, ["missed"])
            assert receptions > 1
        case End.DEAD:
            assert (changes, told) == (0, ["failed"])
            assert letter is not None
            assert letter["attributes"]["reason"].startswith("failed: ")
        case End.DEAD_UNKNOWN:
            assert (changes, recorded) == (0, [])
            assert letter is not None
            assert letter["attributes"]["reason"].startswith("failed: ")
