"""What an Auto Scaling group buys, and whom it lets go."""

from __future__ import annotations

import pytest
from moto.autoscaling.exceptions import ValidationError

from local_aws.auto_scaling.api import check_bounds, detachable
from local_aws.auto_scaling.launches import Purchase, choose_purchase, wants_spot
from local_aws.auto_scaling.members import Lifecycle


@pytest.mark.parametrize(
    ("on_demand", "members", "base", "percent", "spot"),
    [
        (0, 0, 0, 0, True),
        (0, 0, 1, 0, False),  # the base comes first
        (1, 1, 1, 0, True),
        (1, 2, 1, 50, False),
        (2, 2, 1, 50, True),
        (2, 3, 1, 50, False),  # half of three, rounded up
        (0, 5, 0, 100, False),
    ],
)
def test_base_and_percentage_divide_spot_and_on_demand(
    on_demand: int, members: int, base: int, percent: int, spot: bool
) -> None:
    chosen = wants_spot(on_demand_members=on_demand, members=members, base=base, percent_above_base=percent)
    assert chosen is spot


def test_launches_spread_over_subnets_and_types() -> None:
    bought: list[Purchase] = []
    for number in range(4):
        bought.append(
            choose_purchase(
                instance_types=["g5.xlarge", "g6.xlarge", "g6e.xlarge"],
                subnets=["subnet-a", "subnet-b"],
                zones=["a", "b"],
                used_subnets=[str(each.subnet_id) for each in bought],
                launches=number,
                spot=True,
            )
        )
    assert [each.subnet_id for each in bought] == ["subnet-a", "subnet-b", "subnet-a", "subnet-b"]
    assert [each.instance_type for each in bought][:3] == ["g5.xlarge", "g6.xlarge", "g6e.xlarge"]


STATES = {
    "i-1": Lifecycle.IN_SERVICE,
    "i-2": Lifecycle.STANDBY,
    "i-3": Lifecycle.PENDING_WAIT,
    "i-4": Lifecycle.DETACHING,
}


def test_members_in_service_or_standby_may_be_detached() -> None:
    detachable(["i-1", "i-2"], "g", STATES)


@pytest.mark.parametrize("ids", [["i-3"], ["i-4"], ["i-1", "i-9"], [], [f"i-{n}" for n in range(21)]])
def test_others_make_the_whole_call_fail(ids: list[str]) -> None:
    with pytest.raises(ValidationError):
        detachable(ids, "g", STATES)


@pytest.mark.parametrize("desired", [0, 4])
def test_desired_capacity_stays_within_bounds(desired: int) -> None:
    check_bounds(2, minimum=1, maximum=3)
    with pytest.raises(ValidationError):
        check_bounds(desired, minimum=1, maximum=3)
