"""A member that says it is sick is replaced, before it ends; one that is in its grace is let be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import botocore.exceptions
import pytest


@pytest.fixture(scope="module")
def fleet(make_fleet: Callable[..., Any], eventually: Callable[..., Any]) -> Any:
    made = make_fleet(
        1,
        HealthCheckGracePeriod=3600,
        InstanceMaintenancePolicy={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200},
    )
    eventually(lambda: len(made.healthy()) == 1)
    return made


def say(fleet: Any, instance_id: str, status: str, **given: Any) -> None:
    fleet.client("autoscaling").set_instance_health(InstanceId=instance_id, HealthStatus=status, **given)


def health(fleet: Any, instance_id: str) -> str:
    (found,) = fleet.client("autoscaling").describe_auto_scaling_instances(InstanceIds=[instance_id])[
        "AutoScalingInstances"
    ]
    return str(found["HealthStatus"])


@pytest.mark.parametrize("status", ["Unhealthy", "Healthy"])
def test_nothing_is_known_of_an_instance_in_no_group(fleet: Any, status: str) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="No managed instance found"):
        say(fleet, "i-0123456789abcdef0", status)


def test_a_state_of_health_that_is_none_is_refused(fleet: Any) -> None:
    with pytest.raises(botocore.exceptions.ClientError, match="Valid instance health states"):
        say(fleet, fleet.nodes()[0].instance_id, "Tired")


def test_a_group_looks_over_a_sick_member_in_its_grace_unless_told_not_to(
    fleet: Any, eventually: Callable[..., Any]
) -> None:
    sick = fleet.nodes()[0].instance_id
    say(fleet, sick, "Unhealthy")
    assert health(fleet, sick) == "Healthy"
    say(fleet, sick, "Unhealthy", ShouldRespectGracePeriod=False)
    assert health(fleet, sick) == "Unhealthy"

    def endings() -> list[dict[str, Any]]:
        # Events of other groups are there as well.
        details = [event["detail"] for event in fleet.events("EC2 Instance Terminate Successful")]
        return [detail for detail in details if detail["EC2InstanceId"] == sick]

    (ended,) = eventually(endings, seconds=40)
    steps = [
        (entry["instance_id"] == sick, entry["state"])
        for entry in fleet.aws.control.timeline()
        if entry["kind"] == "lifecycle" and entry["group"] == fleet.name
    ]
    assert steps.index((False, "InService")) < steps.index((True, "Terminating"))
    assert "in response to a user health-check" in ended["Cause"]
