"""Two notices for one node, handled at the same time: whatever comes between them, the node goes once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.faults.driver import event_of
from tests.local.faults.functions import DeployedFunction
from tests.local.faults.plane import NOTICE_FUNCTIONS, Plane
from tests.local.faults.playing import CHANGES, SUCCESSES, UNDER_WAY, Case, nodes_of
from tests.local.faults.test_crashes import CRASHES


@pytest.fixture(scope="module")
def twins(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, DeployedFunction]]:
    """Return a second process of each function."""
    folder: Path = tmp_path_factory.mktemp("twins")
    made = {
        name: DeployedFunction(plane.aws.control, name, folder / f"{name}.log") for name in NOTICE_FUNCTIONS
    }
    for function in made.values():
        function.wait_until_ready()
    yield made
    for function in made.values():
        function.stop()


@pytest.mark.parametrize(("function", "call"), CRASHES)
def test_two_notices_for_one_node_at_the_same_time_do_it_once(
    plane: Plane, twins: dict[str, DeployedFunction], function: str, call: int
) -> None:
    """The first is held after each of its calls while the second is handled from its beginning to its end."""
    with Case(plane, function) as case:
        nodes = [node for _, node in nodes_of(plane, function)]
        first = [plane.notice(node) for node in nodes]
        second = [plane.notice(node) for node in nodes]
        driver = case.driver
        driver.send(*first)
        batch = driver.receive()
        now = plane.clock.now
        over = driver.function.invoke_until(event_of(batch), at=now, pause_after=call)
        assert over is None, "the function makes fewer calls than CALLS_OF says"
        driver.send(*second)
        other = driver.receive()
        driver.settle(other, twins[function].invoke(event_of(other), at=now), case.delivered)
        driver.settle(batch, driver.function.resume(), case.delivered)
        twins[function].end_environment()
        driver.run(case.delivered)
        seen = case.look()
        for node in nodes:
            outcomes = set(seen.outcomes[node]) - UNDER_WAY
            assert outcomes
            assert outcomes <= SUCCESSES[function]
            most = 2 if function == "drain_node" else 1  # told twice, the node drains once
            assert 1 <= CHANGES[function](seen.effects, node) <= most
        case.nothing_else_happened(seen, nodes=nodes, messages=[*first, *second])
