"""Any text in a queue ends as handled, foreign or dead-lettered: never as a crash or an action on others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spot_failover.outcomes import Outcome as StepOutcome
from spot_failover.outcomes import Step

from tests.properties.hostile import bodies
from tests.simulation.bus import Delivery
from tests.simulation.invariants import problems
from tests.simulation.play import Notice, Outcome
from tests.simulation.scenario import Interruption, Scenario, Weather
from tests.simulation.world import START, World, running

INPUTS = int(os.environ.get("PROPERTY_INPUTS", "100000"))
SEED = int(os.environ.get("PROPERTY_SEED", "1"))
# As many as one scenario takes; then a new account, or its table would only grow.
A_TIME = 500

EXPECTED = {
    Step.DEREGISTER: (StepOutcome.DEREGISTERED, StepOutcome.NOT_REGISTERED),
    Step.DRAIN_COMMAND: (StepOutcome.COMMANDED,),
    Step.REPLACEMENT_REQUEST: (StepOutcome.DETACHED,),
    Step.REPLACEMENT: (StepOutcome.IN_SERVICE,),
}

pytestmark = pytest.mark.usefixtures("memory")


def swallow(texts: Sequence[str], function: str) -> list[str]:
    """Put texts into a function's queue, a notice for one of our nodes among them; return what is wrong."""
    world = World(Scenario(weather=Weather(concurrency=2)))
    with running(world):
        outcome = Outcome(world)
        world.timeline.run(START + 1)
        node = next(iter(world.groups.groups["fleet-0"].original))
        instance = world.ec2.instances[node]
        half = len(texts) // 2
        for text in texts[:half]:
            world.bus.deliver(text, (function,), Delivery((0.1,)))
        world.interrupt(instance)
        outcome.notices.append(Notice(Interruption(1.0), instance, "fleet-0", START + 1, booting=False))
        world.bus.put("aws.ec2", "EC2 Spot Instance Interruption Warning", _detail(node), Delivery((0.1,)))
        for text in texts[half:]:
            world.bus.deliver(text, (function,), Delivery((0.1,)))
        world.timeline.after(120.0, lambda: world.ec2.end(instance))
        world.timeline.run(START + 600)
        return [*problems(outcome), *_unhandled(outcome, node)]


def _detail(instance_id: str) -> dict[str, str]:
    return {"instance-id": instance_id, "instance-action": "terminate"}


def _unhandled(outcome: Outcome, node: str) -> Iterator[str]:
    """The one real notice is acted on, in spite of its company."""
    items = [one for one in outcome.world.table.items.values() if one["incident"]["S"] == node]
    done = {(one["step"]["S"], one["outcome"]["S"]) for one in items if "step" in one}
    for step, outcomes in EXPECTED.items():
        if not any((step.value, one.value) in done for one in outcomes):
            yield f"{step} of {node} is not recorded as done, only {sorted(done)}"


def swallow_all(count: int, seed: int) -> None:
    """Swallow so many bent events: some for a notice's function, some for the tracker, by turns."""
    texts = bodies(seed, count)
    number = 0
    while some := list(islice(texts, A_TIME)):
        function = ("track_incident", "request_replacement")[number // A_TIME % 2]
        found = swallow(some, function)
        assert not found, f"seed {seed}, from number {number}: {found}"
        number += len(some)


@pytest.mark.parametrize("part", range(4))
def test_bent_events_end_as_handled_foreign_or_dead_lettered(part: int) -> None:
    swallow_all(INPUTS // 4, SEED + part)


def _dumps(value: Any) -> str:
    return json.dumps(value)


ANY_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENVELOPES = st.fixed_dictionaries(
    {
        "source": st.sampled_from(("aws.ec2", "aws.autoscaling", "aws.ssm", "spot-failover.node"))
        | st.text(),
        "detail-type": st.sampled_from(
            (
                "EC2 Spot Instance Interruption Warning",
                "EC2 Instance Launch Successful",
                "EC2 Command Invocation Status-change Notification",
                "Spot Failover Node Ready",
                "Spot Failover Node Drained",
            )
        ),
        "time": st.datetimes().map(lambda at: at.replace(tzinfo=UTC).isoformat()) | st.text(),
        "detail": ANY_JSON,
    }
)


@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(texts=st.lists(st.text() | ANY_JSON.map(_dumps) | ENVELOPES.map(_dumps), min_size=1, max_size=30))
def test_any_json_ends_as_handled_foreign_or_dead_lettered(texts: list[str]) -> None:
    for function in ("request_replacement", "track_incident"):
        assert not swallow(texts, function)
