"""The capacity gap is the time with fewer healthy nodes than desired."""

from __future__ import annotations

from typing import Any

from local_aws.demo.capacity import CapacityPoint, capacity_gap, capacity_points, ready_at


def target(at: float, instance_id: str, state: str) -> dict[str, Any]:
    return {"at": at, "kind": "target_state", "instance_id": instance_id, "state": state}


def test_only_healthy_targets_are_ready() -> None:
    points = capacity_points(
        [
            target(1, "a", "initial"),
            target(5, "a", "healthy"),
            {"at": 6, "kind": "api_call", "action": "x"},
            target(7, "b", "healthy"),
            target(9, "a", "draining"),
            target(12, "a", "unused"),
            target(20, "b", "unhealthy"),
        ]
    )
    assert points == (CapacityPoint(5, 1), CapacityPoint(7, 2), CapacityPoint(9, 1), CapacityPoint(20, 0))


def test_node_that_dies_without_a_word_is_ready_no_more() -> None:
    entries = [target(1, "a", "healthy"), {"at": 4, "kind": "node_killed", "instance_id": "a"}]
    assert capacity_points(entries)[-1] == CapacityPoint(4, 0)


def test_gap_lasts_from_the_node_that_leaves_to_the_replacement() -> None:
    points = [CapacityPoint(0, 2), CapacityPoint(100.5, 1), CapacityPoint(131, 2)]
    gap = capacity_gap(points, desired=2, begin=100, end=200)
    assert gap.seconds == 30.5
    assert gap.closed


def test_gap_counts_only_between_its_ends() -> None:
    points = [CapacityPoint(0, 1), CapacityPoint(50, 2), CapacityPoint(60, 1), CapacityPoint(70, 2)]
    assert capacity_gap(points, desired=2, begin=55, end=65).seconds == 5
    assert capacity_gap(points, desired=2, begin=80, end=90).seconds == 0


def test_gap_that_flaps_adds_up() -> None:
    points = [
        CapacityPoint(0, 2),
        CapacityPoint(10, 1),
        CapacityPoint(20, 2),
        CapacityPoint(30, 0),
        CapacityPoint(33, 2),
    ]
    assert capacity_gap(points, desired=2, begin=5, end=50).seconds == 13


def test_gap_that_is_still_open_says_so() -> None:
    gap = capacity_gap([CapacityPoint(0, 2), CapacityPoint(10, 1)], desired=2, begin=5, end=50)
    assert gap.seconds == 40
    assert not gap.closed


def test_nothing_is_ready_before_the_first_point() -> None:
    assert ready_at([CapacityPoint(10, 2)], 9) == 0
    assert capacity_gap([], desired=1, begin=0, end=3).seconds == 3
