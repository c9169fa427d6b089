"""Every call that a notice needs, failing in every way, at the first, a middle and the last node of three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.local.faults.matrix import ACCESS_DENIED, ANSWER_LOST, End, Part, Row, rows
from tests.local.faults.plane import Plane
from tests.local.faults.playing import CHANGES, SUCCESSES, UNDER_WAY, Case, Seen, nodes_of

EVERY_BATCH = 1000


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.name)
def test_a_failing_call_ends_as_it_must_and_harms_nobody_else(plane: Plane, row: Row) -> None:
    function = row.call.function
    with Case(plane, function) as case:
        nodes = [node for _, node in nodes_of(plane, function)]
        now = plane.clock.now
        bodies = [plane.notice(node, at=now + number) for number, node in enumerate(nodes)]
        inject(plane, row)
        case.driver.send(*bodies)
        if row.call.each_fleet:
            case.driver.run(case.delivered)
        else:
            # What has to be refused first is refused to one message and no other.
            singly = EVERY_BATCH if row.call.follows else len(nodes)
            case.driver.run(case.delivered, singly=singly, before_each=Batches(case, row))
        seen = case.look()
        for number, (node, body) in enumerate(zip(nodes, bodies, strict=True)):
            ended_as(row, row.end_of(number), seen, node, body)
        refusals = {row.call.action} if row.fault is ACCESS_DENIED else set()
        if row.call.part is Part.BURIAL and row.call.follows:
            refusals.add(row.call.follows.action)
        # Buried, and its answer lost: it is buried again, as a standard queue may deliver a message twice.
        copies = 2 if row.call.part is Part.BURIAL and row.fault is ANSWER_LOST else 1
        case.nothing_else_happened(seen, nodes=nodes, messages=bodies, refusals=refusals, most_letters=copies)


class Batches:
    """What is done before each of a row's batches of one."""

    def __init__(self, case: Case, row: Row) -> None:
        self._case = case
        self._refusal = row.call.follows

    def __call__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Let a new message be a cold environment's, which has to ask for everything."""
        is_new = any(message["Body"] not in self._case.delivered.receptions for message in messages)
        if is_new:
            self._case.driver.function.end_environment()
        refusal = self._refusal
        if refusal and (refusal.again or is_new):
            self._case.plane.aws.control.inject_fault(refusal.action, refusal.error, count=refusal.calls)


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
    told = [outcome for outcome in recorded if outcome not in UNDER_WAY]
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
        case End.MISSED | End.MISSED_IN_PART:
            assert letter is None
            assert told[-1:] == ["missed"]
            assert set(told) <= {"missed", "failed"}
            assert changes == (1 if end is End.MISSED_IN_PART else 0)
            assert receptions > 1
        case End.DEAD | End.DEAD_IN_PART:
            assert set(told) == {"failed"}
            assert changes == (1 if end is End.DEAD_IN_PART else 0)
            assert letter is not None
            assert letter["attributes"]["reason"].startswith("failed: ")
        case End.DEAD_UNRECORDED:
            assert (changes, recorded) == (1, [])
            assert letter is not None
            assert letter["attributes"]["reason"].startswith("failed: ")
            assert "unrecorded=" in letter["attributes"]["reason"]
        case End.DEAD_UNKNOWN:
            assert (changes, recorded) == (0, [])
            assert letter is not None
            assert letter["attributes"]["reason"].startswith("failed: ")
