"""Writing entries to the incidents table without ever failing what they tell about."""

from __future__ import annotations

from collections.abc import Sequence

from spot_failover.errors import AwsCallError
from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Entry
from spot_failover.telemetry import Telemetry, logger


def record(entries: Sequence[Entry], *, table: IncidentTable, telemetry: Telemetry) -> None:
    """Write the entries, in one call for a batch.

    A failure is logged with the entries, counted, and nothing more: the failover itself is done, and to do it
    again for the sake of its record would be the wrong way round.
    """
    try:
        table.write(entries)
    except AwsCallError as error:
        for entry in entries:
            logger.error(
                "incident: unrecorded",
                extra={
                    "incident": entry.incident,
                    "instance_id": entry.incident,
                    "fleet": entry.fleet,
                    "step": entry.step.value,
                    "outcome": entry.outcome.value,
                    "detail": dict(entry.detail),
                    "error": str(error),
                },
            )
            telemetry.count("incident.unrecorded", fleet=entry.fleet)
