"""Reads the incidents that the control plane recorded, with the control plane's own code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Incident

from local_aws.demo.interruptions import Interruption

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class IncidentRecord:
    """One deployment's incidents table, read only."""

    def __init__(self, dynamodb: DynamoDBClient, table: str) -> None:
        self._table = IncidentTable(dynamodb, table=table, ttl=timedelta(0))

    def interruption(self, instance_id: str, *, noticed_at: float, deadline: float) -> Interruption:
        """Return what is on record of a node's departure; without a record, only the notice is known."""
        incident = self._table.incident(instance_id)
        if incident is None:
            return Interruption(
                instance_id=instance_id,
                noticed_at=datetime.fromtimestamp(noticed_at, UTC),
                deadline=datetime.fromtimestamp(deadline, UTC),
            )
        return from_incident(incident)


def from_incident(incident: Incident) -> Interruption:
    """Return the incident as the report tells it; the capacity and the boot come from elsewhere."""
    return Interruption(
        instance_id=incident.incident,
        noticed_at=incident.noticed_at,
        deadline=incident.deadline,
        deregistered_at=incident.deregistered_at,
        drain_requested_at=incident.drain_requested_at,
        drain_started_at=incident.drain_started_at,
        drained_at=incident.drained_at,
        in_flight_at_notice=incident.in_flight_at_notice,
        cut_requests=incident.cut_requests,
        replacement_requested_at=incident.replacement_requested_at,
        replacement_instance_id=incident.replacement_instance_id,
        replacement_launched_at=incident.replacement_launched_at,
        replacement_in_service_at=incident.replacement_in_service_at,
        recovery_seconds=incident.recovery_seconds,
        recovery_parts=incident.recovery_parts,
    )
