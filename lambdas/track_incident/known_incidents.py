"""The incidents that the events of a batch are about, each fleet's read once."""

from __future__ import annotations

from datetime import datetime

from spot_failover.incident_table import Claim, IncidentTable
from spot_failover.incidents import Entry, Incident, fold


class KnownIncidents:
    """One batch's view of the table: what it read, and what the batch itself has claimed since."""

    def __init__(self, table: IncidentTable) -> None:
        self._table = table
        self._fleets: dict[str, tuple[datetime, dict[str, Incident]]] = {}
        self._claimed: dict[str, Entry] = {}
        self._taken: set[str] = set()

    def incident(self, incident: str) -> Incident | None:
        """As `IncidentTable.incident`."""
        return self._table.incident(incident)

    def incidents_of_fleet(self, fleet: str, *, since: datetime) -> list[Incident]:
        """As `IncidentTable.incidents_of_fleet`, but from the full hour on: a storm's events share one query.

        Without those that somebody else has given a replacement to, until the index shows it.
        """
        hour = since.replace(minute=0, second=0, microsecond=0)
        known = self._fleets.get(fleet)
        if known is None or known[0] > hour:
            read = self._table.incidents_of_fleet(fleet, since=hour)
            known = self._fleets[fleet] = (hour, {one.incident: one for one in read})
            for entry in self._claimed.values():
                self._add(entry)
        return [
            one
            for one in known[1].values()
            if one.incident not in self._taken or one.replacement_instance_id is not None
        ]

    def claim_replacement(self, entry: Entry, *, replacement: str) -> Claim:
        """As `IncidentTable.claim_replacement`; this batch's later events know of it."""
        claim = self._table.claim_replacement(entry, replacement=replacement)
        match claim:
            case Claim.MADE:
                self._claimed[entry.incident] = entry
                self._add(entry)
            case Claim.DEPARTURE_TAKEN:
                # Another invocation is at this fleet too: what is known of it is out of date.
                self._taken.add(entry.incident)
                self._fleets.pop(entry.fleet, None)
            case Claim.REPLACEMENT_TAKEN:
                pass
        return claim

    def _add(self, entry: Entry) -> None:
        _, incidents = self._fleets.get(entry.fleet, (None, {}))
        if known := incidents.get(entry.incident):
            incidents[entry.incident] = fold([*known.entries, entry])
