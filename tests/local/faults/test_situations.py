"""Duplicate, late, early, reordered, replayed, stale and foreign notices, and nodes in every state."""

from __future__ import annotations

import pytest

from tests.local.faults.plane import NOTICE_FUNCTIONS, Plane
from tests.local.faults.playing import CHANGES, UNDER_WAY, Case
from tests.local.faults.situations import SITUATIONS, Situation


@pytest.mark.parametrize("function", NOTICE_FUNCTIONS)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_a_notice_ends_as_it_must(plane: Plane, function: str, situation: Situation) -> None:
    node = situation.node(plane, function)
    with Case(plane, function) as case:
        messages = situation.tell(plane, node)
        together = [message.body for message in messages if message.after == 0]
        case.driver.send(*together)
        case.driver.run(case.delivered)
        for message in messages[len(together) :]:
            plane.clock.skip(message.after)
            case.driver.send(message.body)
            case.driver.run(case.delivered)
        seen = case.look()
        expected = situation.expected[function]
        outcomes = set(seen.outcomes.get(node, [])) - UNDER_WAY
        assert outcomes <= expected.outcomes
        assert bool(outcomes) is bool(expected.outcomes)
        least, most = expected.changes
        assert least <= CHANGES[function](seen.effects, node) <= most
        assert bool(seen.dead_letters) is expected.dead
        if expected.dead:
            (letter,) = seen.dead_letters
            assert letter["attributes"]["reason"].startswith("malformed: ")
        case.nothing_else_happened(
            seen,
            nodes=[node] if expected.outcomes else [],
            messages=[message.body for message in messages],
            not_replaced=[] if situation.is_replaced else [node],
        )
        if function == "request_replacement" and not seen.effects.detached:
            plane.fleets.put_back(node)
