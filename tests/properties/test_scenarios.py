"""Whatever happens to fleets, and whatever fails meanwhile, nothing is lost and nothing is done twice."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings

from tests.properties.scenarios import SCENARIOS
from tests.simulation.invariants import problems
from tests.simulation.play import play
from tests.simulation.scenario import Scenario

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "500"))


@pytest.mark.usefixtures("memory")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="PROPERTY_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)
@given(scenario=SCENARIOS)
def test_nothing_is_lost_in_any_scenario(scenario: Scenario) -> None:
    found = problems(play(scenario))
    note("\n".join(found))
    assert not found
