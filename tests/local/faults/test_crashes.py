"""A function that dies after each of its calls: its messages come back, and nothing is done twice or lost."""

from __future__ import annotations

import pytest

from tests.local.faults.plane import NOTICE_FUNCTIONS, Plane
from tests.local.faults.playing import CHANGES, SUCCESSES, UNDER_WAY, Case, nodes_of

# How many calls a cold function makes for a batch of three nodes of three fleets.
CALLS_OF = {"deregister_target": 13, "drain_node": 3, "request_replacement": 6}
CRASHES = [(function, call) for function, calls in CALLS_OF.items() for call in range(1, calls + 1)]


@pytest.mark.parametrize(("function", "call"), CRASHES)
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_a_crash_after_a_call_delays_the_batch_and_harms_nothing(
    plane: Plane, function: str, call: int, times: int
) -> None:
    with Case(plane, function) as case:
        nodes = [node for _, node in nodes_of(plane, function)]
        bodies = [plane.notice(node) for node in nodes]
        case.driver.send(*bodies)
        case.driver.run(case.delivered, crash_after=[call] * times)
        seen = case.look()
        ends = [invocation.ended for invocation in case.delivered.invocations]
        assert ends[0] == "crashed", "the function makes fewer calls than CALLS_OF says"
        for node, body in zip(nodes, bodies, strict=True):
            assert seen.receptions_of(body) >= 2
            assert seen.dead_letter_of(body) is None
            assert SUCCESSES[function] & set(seen.outcomes[node])
            assert set(seen.outcomes[node]) <= SUCCESSES[function] | UNDER_WAY
            assert CHANGES[function](seen.effects, node) >= 1
        case.nothing_else_happened(seen, nodes=nodes, messages=bodies)


@pytest.mark.parametrize("function", NOTICE_FUNCTIONS)
def test_every_call_has_its_crash(plane: Plane, function: str) -> None:
    with Case(plane, function) as case:
        nodes = [node for _, node in nodes_of(plane, function)]
        bodies = [plane.notice(node) for node in nodes]
        case.driver.send(*bodies)
        case.driver.run(case.delivered)
        seen = case.look()
        (invocation,) = seen.delivered.invocations
        assert len(invocation.calls) == CALLS_OF[function]
        case.nothing_else_happened(seen, nodes=nodes, messages=bodies)


def test_a_message_that_kills_every_time_ends_in_the_dead_letters(plane: Plane) -> None:
    with Case(plane, "drain_node") as case:
        most = case.driver.most_receptions()
        (_, node), *_ = nodes_of(plane, "drain_node")
        body = plane.notice(node)
        case.driver.send(body)
        case.driver.run(case.delivered, crash_after=[1] * (most + 1))
        seen = case.look()
        assert seen.receptions_of(body) == most
        assert seen.dead_letter_of(body) is not None
        assert not seen.effects.touched
        case.nothing_else_happened(seen, nodes=[node], messages=[body])
