"""A function's role in the wrong hands: nothing outside the fleet tag, and no work but its own."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.local.faults.plane import FUNCTIONS, Plane
from tests.local.security.outside import NOBODY_MAY, OUTSIDE, ROLES, Reach, Things, answer

DENIALS = ("AccessDenied: ", "AccessDeniedException: ", "UnauthorizedOperation: ")


@pytest.mark.parametrize("function", ROLES)
@pytest.mark.parametrize("reach", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_a_role_is_refused_what_is_outside_the_fleet_tag(
    plane: Plane, things: Things, function: str, reach: Reach
) -> None:
    assert answer(plane, function, reach, things).startswith(DENIALS)


@pytest.mark.parametrize("function", ROLES)
@pytest.mark.parametrize("reach", NOBODY_MAY.values(), ids=NOBODY_MAY.keys())
def test_a_role_is_refused_what_no_function_does_even_to_nodes(
    plane: Plane, things: Things, function: str, reach: Reach
) -> None:
    assert answer(plane, function, reach, things).startswith(DENIALS)


# The same calls on what carries the tag, so that the refusals above are the tag's and not the call's.
INSIDE = {
    "request_replacement": Reach(
        "autoscaling",
        "detach_instances",
        lambda t: {
            "AutoScalingGroupName": t.group,
            "InstanceIds": ["i-00000000000000bad"],
            "ShouldDecrementDesiredCapacity": False,
        },
    ),
    "deregister_target": Reach(
        "elbv2",
        "deregister_targets",
        lambda t: {"TargetGroupArn": t.target_group, "Targets": [{"Id": t.node}]},
    ),
    "drain_node": Reach(
        "ssm",
        "send_command",
        lambda t: {
            "DocumentName": "SpotFailover-DrainNode",
            "InstanceIds": [t.node],
            "Parameters": {"Deadlines": [f"{t.node}@2026-11-25T10:00:00Z"]},
        },
    ),
}


@pytest.mark.parametrize("function", INSIDE)
def test_a_role_is_let_do_its_work_on_what_carries_the_tag(
    plane: Plane, things: Things, function: str
) -> None:
    said = answer(plane, function, INSIDE[function], things)
    if function == "request_replacement":
        assert said.startswith("ValidationError: ")  # allowed to ask, and told that there is no such member
    else:
        assert said == ""
    plane.fleets.register(next(iter(plane)), [things.node])


@pytest.mark.parametrize("function", INSIDE)
def test_a_role_is_refused_the_work_of_another_function(plane: Plane, things: Things, function: str) -> None:
    for other, reach in INSIDE.items():
        if other != function:
            assert answer(plane, function, reach, things).startswith(DENIALS), other


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_role_reaches_no_other_functions_queues(plane: Plane, things: Things, function: str) -> None:
    for other in FUNCTIONS:
        if other == function:
            continue
        for url in (things.queues[other], things.dead_letter_queues[other]):
            for operation, more in (("send_message", {"MessageBody": "x"}), ("receive_message", {})):
                parameters = {"QueueUrl": url, **more}
                reach = Reach("sqs", operation, partial(_given, parameters))
                assert answer(plane, function, reach, things).startswith(DENIALS)
    own = Reach("sqs", "send_message", lambda t: {"QueueUrl": t.queues[function], "MessageBody": "x"})
    assert answer(plane, function, own, things).startswith(DENIALS), "only EventBridge fills a queue"


def _given(parameters: dict[str, str], _: Things) -> dict[str, Any]:
    return parameters
