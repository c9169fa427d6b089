"""What a node's own events add to incidents.

A node is believed only where the incident names it: for a boot as the replacement, for a drain as the
departing node. A boot that failed has made no replacement yet: it is told to the incident that waits longest,
as a failed launch is.
"""

from __future__ import annotations

from typing import assert_never

from spot_failover.incidents import Incident
from spot_failover.outcomes import Outcome, Step

from track_incident.findings import Finding, entry_of, found, not_yet, outside
from track_incident.known_incidents import KnownIncidents
from track_incident.matching import WINDOW, awaiting, replaced_by
from track_incident.node_events import NodeBootFailed, NodeDrained, NodeReady


class NodeTracker:
    """Finds the incident of a node's event and what to add to it."""

    def __init__(self, incidents: KnownIncidents) -> None:
        self._incidents = incidents

    def report(self, event: NodeReady | NodeBootFailed | NodeDrained, *, receive_count: int) -> Finding:
        """Find what a node's event means. Raises AwsCallError."""
        match event:
            case NodeReady():
                return self._ready(event, receive_count=receive_count)
            case NodeBootFailed():
                return self._boot_failed(event)
            case NodeDrained():
                return self._drained(event, receive_count=receive_count)
            case _:
                assert_never(event)

    def _ready(self, event: NodeReady, *, receive_count: int) -> Finding:
        """Add a replacement's boot to the incident that it ends."""
        incidents = self._incidents.incidents_of_fleet(event.fleet, since=event.at - WINDOW)
        incident = replaced_by(incidents, event.instance_id)
        if incident is None:
            # Node and group both report once the hook is completed: which comes first is chance.
            return not_yet(event, event.fleet, Outcome.NOT_A_REPLACEMENT, receive_count=receive_count)
        if incident.boot_phases is not None:
            return outside(event, event.fleet, Outcome.ALREADY_REPORTED, replaces=incident.incident)
        detail = {"instance_id": event.instance_id, **event.boot.detail}
        return found(entry_of(incident, Step.BOOT, Outcome.BOOTED, event.at, detail))

    def _boot_failed(self, event: NodeBootFailed) -> Finding:
        """Tell a failed boot to the incident that it concerns."""
        incidents = self._incidents.incidents_of_fleet(event.fleet, since=event.at - WINDOW)
        waiting = awaiting(incidents, launched_at=event.boot.booted_at or event.at)
        incident = replaced_by(incidents, event.instance_id) or next(iter(waiting), None)
        detail = {"instance_id": event.instance_id, "phase": event.phase, "reason": event.reason}
        if incident is None:
            return outside(event, event.fleet, Outcome.NOT_A_REPLACEMENT, **detail)
        if _has_boot_of(event.instance_id, incident):
            return outside(event, event.fleet, Outcome.ALREADY_REPORTED, **detail)
        detail_of_entry = {**detail, **event.boot.detail}
        return found(entry_of(incident, Step.BOOT, Outcome.BOOT_FAILED, event.at, detail_of_entry))

    def _drained(self, event: NodeDrained, *, receive_count: int) -> Finding:
        """Add the departing node's own report of its drain."""
        incident = self._incidents.incident(event.instance_id)
        if incident is None:
            return not_yet(event, event.fleet, Outcome.NO_INCIDENT, receive_count=receive_count)
        if incident.fleet != event.fleet:
            return outside(event, None, Outcome.FOREIGN, fleet_of_incident=incident.fleet)
        if is_reported(incident):
            return outside(event, event.fleet, Outcome.ALREADY_REPORTED)
        report = event.report
        return found(entry_of(incident, Step.DRAIN, report.outcome, report.finished_at, dict(report.detail)))


def _has_boot_of(instance_id: str, incident: Incident) -> bool:
    boots = (one for one in incident.entries if one.step is Step.BOOT)
    return any(one.detail["instance_id"] == instance_id for one in boots)


def is_reported(incident: Incident) -> bool:
    """Whether the incident has a report of the node's drain, by whichever way it came."""
    return incident.outcomes.get(Step.DRAIN, Outcome.UNREPORTED) is not Outcome.UNREPORTED
