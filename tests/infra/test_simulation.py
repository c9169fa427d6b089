"""The simulated control plane has the deployed one's numbers, settings, keys and targets."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.templates import Template
from tests.simulation import functions, world
from tests.simulation.scenario import Scenario, Weather


@pytest.fixture(scope="module")
def simulated() -> world.World:
    return world.World(Scenario(weather=Weather()))


def _function(control_plane: Template, name: str) -> Any:
    found = control_plane.resources("AWS::Lambda::Function").values()
    return next(one for one in found if one["FunctionName"] == f"spot-failover-{name}")


@pytest.mark.parametrize("name", [*world.QUEUE_FUNCTIONS, world.SWEEPER])
def test_a_simulated_function_has_each_deployed_setting(
    control_plane: Template, simulated: world.World, name: str
) -> None:
    deployed = _function(control_plane, name)
    assert deployed["Timeout"] == simulated.functions[name].timeout
    settings = deployed["Environment"]["Variables"]
    given = simulated.functions[name].environment
    assert settings.keys() - given.keys() == {"POWERTOOLS_LOG_LEVEL"}
    for setting in ("NOTICE_SECONDS", "HOLD_RESERVE_SECONDS", "GRACE_SECONDS", "INCIDENTS_OPEN_INDEX"):
        if setting in settings:
            assert given[setting] == settings[setting]


def test_the_simulated_queues_are_the_deployed_ones(control_plane: Template, simulated: world.World) -> None:
    queues = {one["QueueName"]: one for one in control_plane.resources("AWS::SQS::Queue").values()}
    for name, ours in simulated.queues.items():
        deployed = queues[f"spot-failover-{name}"]
        assert deployed["VisibilityTimeout"] == ours.queue.visibility
        assert ours.queue.redrive is not None
        assert deployed["RedrivePolicy"]["maxReceiveCount"] == ours.queue.redrive[1]
    for source in control_plane.resources("AWS::Lambda::EventSourceMapping").values():
        assert source["BatchSize"] == functions.BATCH_SIZE
        assert source["ScalingConfig"]["MaximumConcurrency"] == Weather().concurrency


def test_the_simulated_table_has_the_deployed_keys(control_plane: Template, simulated: world.World) -> None:
    table = control_plane.only("AWS::DynamoDB::Table")
    assert _keys(table) == simulated.table.key
    deployed = {one["IndexName"]: one for one in table["GlobalSecondaryIndexes"]}
    assert deployed.keys() == simulated.table.indexes.keys()
    for name, index in simulated.table.indexes.items():
        assert _keys(deployed[name]) == index.key
        held = deployed[name]["Projection"].get("NonKeyAttributes")
        assert (None if held is None else frozenset(held)) == index.attributes


def _keys(described: Any) -> tuple[str, ...]:
    return tuple(one["AttributeName"] for one in described["KeySchema"])
