"""The properties notice what they are for: each of these breaks one thing, and is told by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from deregister_target.deregister import Deregister
from request_replacement.replacement import RequestReplacement
from spot_failover.departures import ActionResult
from spot_failover.outcomes import Outcome

from tests.simulation.invariants import problems
from tests.simulation.play import play
from tests.simulation.scaling import AutoScaling
from tests.simulation.scenario import End, FleetPlan, Interruption, Scenario
from tests.simulation.world import World

pytestmark = pytest.mark.usefixtures("memory")

WITHDRAWN = Scenario((FleetPlan(tagged_port=9000),), events=(Interruption(1.0, end=End.WITHDRAWN),))


def _claims(outcome: Outcome) -> Callable[..., Any]:
    """Return an action that says it did its work, and did nothing."""

    def act(_self: object, departures: Any, _now: object, *_late: object) -> dict[str, ActionResult]:
        return {one.node.instance_id: ActionResult(outcome) for one in departures}

    return act


def _detaches_somebody_else(detach: Callable[..., Any]) -> Callable[..., Any]:
    def changed(groups: AutoScaling, **parameters: Any) -> Any:
        group = groups.groups[parameters["AutoScalingGroupName"]]
        others = [key for key in group.members if key not in parameters["InstanceIds"]]
        return detach(groups, **{**parameters, "InstanceIds": others[:1]})

    return changed


def _decrements(detach: Callable[..., Any]) -> Callable[..., Any]:
    def changed(groups: AutoScaling, **parameters: Any) -> Any:
        return detach(groups, **{**parameters, "ShouldDecrementDesiredCapacity": True})

    return changed


def test_a_scenario_in_which_all_is_well_has_no_problems() -> None:
    assert problems(play(WITHDRAWN)) == []


@pytest.mark.parametrize(
    ("owner", "name", "broken", "told"),
    [
        (Deregister, "__call__", _claims(Outcome.DEREGISTERED), "shortly before its deadline"),
        (World, "_sweep", lambda _: None, "was closed 0 times"),
        (World, "_sweep", lambda _: None, "and in no group"),
        (AutoScaling, "detach_instances", _decrements(AutoScaling.detach_instances), "desired capacity"),
        (
            AutoScaling,
            "detach_instances",
            _detaches_somebody_else(AutoScaling.detach_instances),
            "without a notice",
        ),
        (RequestReplacement, "__call__", _claims(Outcome.DETACHED), "recorded as detached and was not"),
        (RequestReplacement, "__call__", lambda *_: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_is_broken_is_told(owner: type, name: str, broken: Any, told: str) -> None:
    with patch.object(owner, name, broken):
        found = problems(play(WITHDRAWN))
    assert any(told in one for one in found), found
