"""The events that a node itself puts on the bus, in typed shapes.

Whoever may put events in the account can write these: every field is checked in its form, its length and its
time, and nothing is believed that the incident does not bear out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from spot_failover import envelopes
from spot_failover.envelopes import Event
from spot_failover.errors import MalformedMessageError

from track_incident.boot_report import BootReport, phase_name, read_boot_report
from track_incident.drain_report import DrainReport, read_drain_report

SOURCE = "spot-failover.node"

LONGEST_FLEET = 128
LONGEST_REASON = 300
MOST_RESTARTS = 10**6


class DetailType(StrEnum):
    """What a node reports."""

    READY = "Spot Failover Node Ready"
    BOOT_FAILED = "Spot Failover Node Boot Failed"
    ENGINE_FAILED = "Spot Failover Node Engine Failed"
    DRAINED = "Spot Failover Node Drained"


@dataclass(frozen=True, kw_only=True)
class NodeEvent:
    """What all of them say: which node, of which fleet, and when."""

    instance_id: str
    fleet: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class NodeReady(NodeEvent):
    """A node's boot ended well, and its launch hook is completed."""

    boot: BootReport


@dataclass(frozen=True, kw_only=True)
class NodeBootFailed(NodeEvent):
    """A node will never be ready."""

    phase: str
    reason: str
    boot: BootReport


@dataclass(frozen=True, kw_only=True)
class NodeDrained(NodeEvent):
    """A node's drain is over."""

    report: DrainReport


@dataclass(frozen=True, kw_only=True)
class NodeEngineFailed(NodeEvent):
    """A node's engine failed; it is started again unless this is final."""

    reason: str
    restarts: int
    final: bool


def parse_node_event(event: Event) -> NodeReady | NodeBootFailed | NodeDrained | NodeEngineFailed:
    """Read an event of a node. Raises MalformedMessageError, saying what is wrong, for everything else."""
    try:
        kind = DetailType(event.detail_type)
    except ValueError as error:
        raise MalformedMessageError(f"no node reports {event.detail_type[:60]!a}") from error
    node = _node(event)
    match kind:
        case DetailType.READY:
            boot = read_boot_report(event.detail.get("boot"))
            if boot.booted_at is None or not boot.path:
                raise MalformedMessageError("boot has no beginning or no path")
            return NodeReady(boot=boot, **node)
        case DetailType.BOOT_FAILED:
            return NodeBootFailed(
                phase=phase_name(event.detail.get("phase")),
                reason=_reason(event),
                boot=read_boot_report(event.detail.get("boot")),
                **node,
            )
        case DetailType.DRAINED:
            return NodeDrained(report=_drain(event, node["instance_id"]), **node)
        case DetailType.ENGINE_FAILED:
            return NodeEngineFailed(
                reason=_reason(event), restarts=_restarts(event), final=_final(event), **node
            )
        case _:
            assert_never(kind)


def _node(event: Event) -> dict[str, Any]:
    return {
        "instance_id": envelopes.instance_id(event.detail, "instance-id"),
        "fleet": envelopes.name(event.detail, "fleet", longest=LONGEST_FLEET),
        "at": envelopes.modern_time(event.detail, "at"),
    }


def _reason(event: Event) -> str:
    return envelopes.text(event.detail, "reason")[:LONGEST_REASON]


def _restarts(event: Event) -> int:
    value = event.detail.get("restarts")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_RESTARTS:
        raise MalformedMessageError("restarts is not a count")
    return value


def _final(event: Event) -> bool:
    value = event.detail.get("final")
    if not isinstance(value, bool):
        raise MalformedMessageError("final is neither true nor false")
    return value


def _drain(event: Event, instance_id: str) -> DrainReport:
    outcome = event.detail.get("outcome")
    report = read_drain_report(outcome)
    if report is None or not isinstance(outcome, dict):
        raise MalformedMessageError("outcome is not the report of a drain")
    envelopes.modern_time(report.detail, "finished_at")
    if outcome.get("instance_id", instance_id) != instance_id:
        raise MalformedMessageError("outcome is the report of another node")
    return report
