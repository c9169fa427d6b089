"""What the events of AWS's services add to incidents."""

from __future__ import annotations

from typing import assert_never

from spot_failover.incident_table import Claim
from spot_failover.outcomes import Outcome, Step
from spot_failover.timestamps import format_milliseconds

from track_incident.command_outputs import CommandOutputs
from track_incident.drain_report import parse_drain_report
from track_incident.events import CommandChanged, LaunchEvent, LaunchFailed, LaunchSucceeded
from track_incident.findings import Finding, entry_of, found, not_yet, outside, retold
from track_incident.known_incidents import KnownIncidents
from track_incident.matching import WINDOW, awaiting, replaced_by
from track_incident.node_tracking import is_reported


class Tracker:
    """Finds the incidents of a batch's events and what to add. An event again adds the same entry again."""

    def __init__(self, incidents: KnownIncidents, outputs: CommandOutputs) -> None:
        self._incidents = incidents
        self._outputs = outputs

    def launch_ended(self, event: LaunchEvent, fleet: str) -> Finding:
        """Find what a launch, or one that failed, means. Raises AwsCallError."""
        match event:
            case LaunchSucceeded():
                return self._launched(event, fleet)
            case LaunchFailed():
                return self._failed_launch(event, fleet)
            case _:
                assert_never(event)

    def _launched(self, event: LaunchSucceeded, fleet: str) -> Finding:
        """Give the launched instance to the incident it ends, once. Raises AwsCallError."""
        incidents = self._incidents.incidents_of_fleet(fleet, since=event.launched_at - WINDOW)
        known = replaced_by(incidents, event.instance_id)
        if known is not None:
            return outside(event, fleet, Outcome.ALREADY_ASSIGNED, replaces=known.incident)
        for incident in awaiting(incidents, launched_at=event.launched_at):
            detail = {
                "instance_id": event.instance_id,
                "launched_at": format_milliseconds(event.launched_at),
                "group": event.group_name,
            }
            entry = entry_of(incident, Step.REPLACEMENT, Outcome.IN_SERVICE, event.in_service_at, detail)
            match self._incidents.claim_replacement(entry, replacement=event.instance_id):
                case Claim.MADE:
                    return found(entry, recorded=True)
                case Claim.REPLACEMENT_TAKEN:
                    return outside(event, fleet, Outcome.ALREADY_ASSIGNED)
                case Claim.DEPARTURE_TAKEN:
                    continue  # the index lagged behind: somebody else's replacement came first
        return outside(event, fleet, Outcome.NOT_A_REPLACEMENT)

    def _failed_launch(self, event: LaunchFailed, fleet: str) -> Finding:
        """Tell the incident that waits longest that a launch failed. Raises AwsCallError."""
        incidents = self._incidents.incidents_of_fleet(fleet, since=event.launched_at - WINDOW)
        waiting = awaiting(incidents, launched_at=event.launched_at)
        if not waiting:
            return outside(event, fleet, Outcome.NOT_A_REPLACEMENT, reason=event.reason)
        detail = {"reason": event.reason, "group": event.group_name}
        return found(entry_of(waiting[0], Step.LAUNCH_FAILED, Outcome.LAUNCH_FAILED, event.failed_at, detail))

    def command(self, event: CommandChanged, *, receive_count: int) -> Finding:
        """Add the node's own report of its drain. Raises AwsCallError."""
        if not event.status.is_final:
            return outside(event, None, Outcome.NOT_FINAL, status=event.status.value)
        incident = self._incidents.incident(event.instance_id)
        if incident is None:
            # A quick command can be over before its sender has written that it was sent.
            return not_yet(event, None, Outcome.NO_INCIDENT, receive_count=receive_count)
        output = self._outputs.of(event.command_id, event.instance_id)
        report = parse_drain_report(output)
        detail = {"command_id": event.command_id, "status": event.status.value}
        if report is None and is_reported(incident):
            return outside(event, incident.fleet, Outcome.ALREADY_REPORTED)
        if report is None:
            detail["error"] = output[-300:]
            return found(entry_of(incident, Step.DRAIN, Outcome.UNREPORTED, event.changed_at, detail))
        detail |= report.detail
        entry = entry_of(incident, Step.DRAIN, report.outcome, report.finished_at, detail)
        # Run Command vouches for this report: it takes the place of the one that the node sent by itself.
        return retold(entry) if is_reported(incident) else found(entry)
