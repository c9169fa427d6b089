"""Some of the cases with nothing virtual: the deployed pollers, Lambda's runtime client, real waits.

They hold the driver and its clock to what they stand for.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local.faults.fleets import wait_for
from tests.local.faults.plane import NOTICE_FUNCTIONS, Plane, hold_deliveries
from tests.local.faults.playing import SUCCESSES, UNDER_WAY, effects_in

LATE_ANSWER_SECONDS = 5.5  # the functions' clients wait for five


@pytest.fixture
def real(plane: Plane) -> Iterator[Plane]:
    """Let the deployed pollers and rules work, and hold them again afterwards."""
    plane.news()
    hold_deliveries(plane.aws, held=False)
    yield plane
    plane.aws.control.clear_faults()
    wait_for("empty queues", lambda: not waiting(plane))
    hold_deliveries(plane.aws)
    for driver in plane.drivers.values():
        driver.dead_letters()
    plane.forget_incidents(plane.entries())
    detached = list(effects_in(plane.news()).detached)
    if detached:
        plane.fleets.end(detached)


def waiting(plane: Plane) -> list[object]:
    names = [driver.queue_name for driver in plane.drivers.values()]
    return list(plane.aws.control.queue_messages(*names))


def notice(plane: Plane, node: str) -> None:
    plane.aws.control.put_event(
        source="aws.ec2",
        detail_type="EC2 Spot Instance Interruption Warning",
        detail={"instance-id": node, "instance-action": "terminate"},
    )


def outcomes(plane: Plane, node: str) -> set[str]:
    return {one["outcome"] for one in plane.entries() if one["incident"] == node and "outcome" in one}


def late_calls(plane: Plane) -> int:
    """How often a detach was asked for, the call that nobody waits for any more included."""
    role = plane.aws.client("lambda").get_function_configuration(
        FunctionName="spot-failover-request_replacement"
    )["Role"]
    calls = plane.aws.control.calls(str(role).rsplit("/", 1)[-1])
    slow = [one["at"] - one["seconds"] for one in calls if one["seconds"] >= LATE_ANSWER_SECONDS]
    return sum(
        one["action"] == "autoscaling:DetachInstances" and one["at"] >= min(slow) for one in calls if slow
    )


def handled(plane: Plane, node: str) -> bool:
    """Whether each of the three functions has told that its step is done."""
    known = outcomes(plane, node)
    return all(known & SUCCESSES[function] for function in NOTICE_FUNCTIONS)


def test_a_notice_is_handled_by_all_three(real: Plane) -> None:
    node = real.fleets.take(next(iter(real)))
    notice(real, node)
    wait_for("a handled notice", lambda: handled(real, node), seconds=30)
    assert outcomes(real, node) & UNDER_WAY == set()


def test_server_errors_bring_a_notice_back_and_it_is_done_then(real: Plane) -> None:
    node = real.fleets.take(next(iter(real)))
    actions = ("elasticloadbalancing:DeregisterTargets", "ssm:SendCommand", "autoscaling:DetachInstances")
    for action in actions:
        real.aws.control.inject_fault(action, "InternalFailure", count=2)
    notice(real, node)
    wait_for("a handled notice", lambda: handled(real, node), seconds=30)
    assert "retrying" in outcomes(real, node)


def test_an_answer_that_comes_too_late_is_none(real: Plane) -> None:
    node = real.fleets.take(next(iter(real)))
    real.aws.control.inject_fault(
        "autoscaling:DetachInstances",
        delay_seconds=LATE_ANSWER_SECONDS,
        count=1,
        takes_effect=True,
    )
    notice(real, node)
    wait_for("a handled notice", lambda: handled(real, node), seconds=45)
    wait_for("the late answer", lambda: late_calls(real) >= 2)
    detached = [one for one in real.entries() if one["incident"] == node]
    assert {one["outcome"] for one in detached if one.get("step") == "replacement_request"} <= {
        "detached",
        "already_detached",
    }


def test_a_refusal_for_good_is_dead_lettered_with_its_reason(real: Plane) -> None:
    node = real.fleets.steady(next(iter(real)))
    real.aws.control.inject_fault("ssm:SendCommand", "AccessDeniedException")
    driver = real.drivers["drain_node"]
    driver.send(real.notice(node, at=real.aws.control.timeline()[-1]["at"]))
    wait_for("a dead letter", lambda: real.aws.control.queue_messages(driver.dead_letters_name), seconds=20)
    (letter,) = driver.dead_letters()
    assert letter["attributes"]["reason"].startswith("failed: action=ssm:SendCommand")
    assert outcomes(real, node) == {"failed"}


def test_a_bus_that_delivers_nothing_leaves_the_group_to_itself(plane: Plane) -> None:
    """The rules are disabled here: no function hears of anything, and the group replaces what has died."""
    fleet = next(iter(plane))
    node = plane.fleets.take(fleet)
    plane.news()
    plane.aws.control.interrupt(node, notice_seconds=0.2, imds=False)

    def replaced() -> bool:
        members = plane.fleets.members_of(fleet.group)
        return node not in members and len(members) == plane.fleets.nodes

    wait_for("replacement by the group itself", replaced, seconds=40)
    news = plane.news()
    assert not waiting(plane)
    assert not [one for one in news if one["kind"] == "api_call"]
    assert effects_in(news).launched == {fleet.name: 1}
