"""Whatever happens to fleets, and whatever fails meanwhile, nothing is lost and nothing is done twice."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, note, seed, settings

from tests.properties.scenarios import SCENARIOS
from tests.simulation.invariants import problems
from tests.simulation.play import play
from tests.simulation.scenario import Scenario

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "500"))
SEED = int(os.environ.get("PROPERTY_SEED", "1"))
SHARES = 4


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("share", range(SHARES))
def test_nothing_is_lost_in_any_scenario(share: int) -> None:
    @seed(SEED + share)
    @settings(
        max_examples=EXAMPLES // SHARES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(scenario=SCENARIOS)
    def nothing_is_lost(scenario: Scenario) -> None:
        found = problems(play(scenario))
        note("\n".join(found))
        assert not found

    nothing_is_lost()
