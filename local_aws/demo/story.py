"""What happened to the nodes, as spans of time: from the timeline to what a picture shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from local_aws.demo.answers import RequestRecord
from local_aws.demo.capacity import HEALTHY, CapacityPoint
from local_aws.demo.interruptions import Interruption


class NodeState(StrEnum):
    """What a node is doing, as its users would say it."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    EMPTY = "empty"
    """Drained; the machine stays until EC2 takes it."""


@dataclass(frozen=True, slots=True)
class Span:
    """A node was in `state` from `begin` to `end` (epoch seconds)."""

    state: NodeState
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class NodeLife:
    """When a node's life changed (epoch seconds); None has not happened."""

    instance_id: str
    started_at: float
    healthy_at: float | None = None
    draining_at: float | None = None
    drained_at: float | None = None
    ended_at: float | None = None

    def spans(self, until: float) -> tuple[Span, ...]:
        """Return the states the node went through, up to its end or `until`."""
        end = min(self.ended_at or until, until)
        begins = (
            (NodeState.STARTING, self.started_at),
            (NodeState.SERVING, self.healthy_at),
            (NodeState.DRAINING, self.draining_at),
            (NodeState.EMPTY, self.drained_at),
        )
        known = [(state, at) for state, at in begins if at is not None and at < end]
        ends = [at for _, at in known[1:]] + [end]
        return tuple(
            Span(state, begin, until_)
            for (state, begin), until_ in zip(known, ends, strict=True)
            if until_ > begin
        )


@dataclass(frozen=True, kw_only=True)
class Story:
    """A whole run."""

    title: str
    begin: float
    end: float
    desired: int
    nodes: Sequence[NodeLife]
    capacity: Sequence[CapacityPoint]
    records: Sequence[RequestRecord]
    interruptions: Sequence[Interruption]


def node_lives(
    entries: Iterable[Mapping[str, Any]], interruptions: Sequence[Interruption]
) -> tuple[NodeLife, ...]:
    """Follow every node of the timeline; the drains' times come from the incidents. Oldest node first."""
    lives: dict[str, NodeLife] = {}
    for entry in entries:
        instance_id, at = entry.get("instance_id"), float(entry["at"])
        if not isinstance(instance_id, str):
            continue
        if entry["kind"] == "node_started":
            lives.setdefault(instance_id, NodeLife(instance_id, started_at=at))
        elif (life := lives.get(instance_id)) is not None:
            lives[instance_id] = _follow(life, entry, at)
    for each in interruptions:
        if (life := lives.get(each.instance_id)) is not None:
            lives[each.instance_id] = replace(
                life,
                draining_at=each.drain_started_at.timestamp() if each.drain_started_at else None,
                drained_at=each.drained_at.timestamp() if each.drained_at else None,
            )
    return tuple(sorted(lives.values(), key=lambda life: life.started_at))


def _follow(life: NodeLife, entry: Mapping[str, Any], at: float) -> NodeLife:
    if entry["kind"] == "target_state" and entry["state"] == HEALTHY:
        return replace(life, healthy_at=life.healthy_at or at)
    if entry["kind"] == "node_killed":
        return replace(life, ended_at=life.ended_at or at)
    return life
