"""How many nodes the load balancer could send requests to, over time, and how long that was too few. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

HEALTHY = "healthy"


@dataclass(frozen=True, slots=True)
class CapacityPoint:
    """From `at` (epoch seconds) on, `ready` nodes were healthy in the target group."""

    at: float
    ready: int


@dataclass(frozen=True, slots=True)
class CapacityGap:
    """The seconds with too few ready nodes; `closed` is False where the last of them was still too few."""

    seconds: float
    closed: bool


def capacity_points(entries: Iterable[Mapping[str, Any]]) -> tuple[CapacityPoint, ...]:
    """Fold the timeline's target states (and the nodes' ends) into the number of healthy nodes over time."""
    healthy: set[str] = set()
    points: list[CapacityPoint] = []
    for entry in entries:
        if entry["kind"] == "target_state" and entry["state"] == HEALTHY:
            healthy.add(entry["instance_id"])
        elif entry["kind"] in ("target_state", "node_killed"):
            healthy.discard(entry["instance_id"])
        else:
            continue
        if len(healthy) != (points[-1].ready if points else 0):
            points.append(CapacityPoint(at=float(entry["at"]), ready=len(healthy)))
    return tuple(points)


def ready_at(points: Sequence[CapacityPoint], at: float) -> int:
    """Return how many nodes were ready at a moment; none before the first point."""
    return next((point.ready for point in reversed(points) if point.at <= at), 0)


def capacity_gap(points: Sequence[CapacityPoint], *, desired: int, begin: float, end: float) -> CapacityGap:
    """Add up the seconds from `begin` to `end` with fewer than `desired` ready nodes."""
    changes = [begin, *(point.at for point in points if begin < point.at < end), end]
    short = sum(until - since for since, until in pairwise(changes) if ready_at(points, since) < desired)
    return CapacityGap(seconds=short, closed=ready_at(points, end) >= desired)
