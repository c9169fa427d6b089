"""Writing entries to the incidents table without ever failing what they tell about."""

from __future__ import annotations

from collections.abc import Sequence

from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Entry
from spot_failover.telemetry import Telemetry, logger


def record(entries: Sequence[Entry], *, table: IncidentTable, telemetry: Telemetry) -> set[str]:
    """Write the entries, one call for 25, and return the incidents whose entry could not be written.

    Each of those is logged, and counted: the failover itself is done. Whether its record is worth doing it
    again is for the caller to say.
    """
    failed = table.write_each(entries)
    for index, error in failed.items():
        entry = entries[index]
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
    return {entries[index].incident for index in failed}
