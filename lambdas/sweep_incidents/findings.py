"""What one sweep has read and decided so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from spot_failover.incidents import Entry, Incident, since_closing
from spot_failover.open_incidents import OpenIncident

from sweep_incidents.judgement import Departed
from sweep_incidents.surroundings import GroupView, Machine


@dataclass
class Findings:
    """Filled step by step, in this order."""

    marks: Mapping[str, OpenIncident]
    incidents: dict[str, list[Incident]] = field(default_factory=dict)  # by fleet; also those closed by now
    groups: dict[str, list[GroupView]] = field(default_factory=dict)  # by fleet
    machines: dict[str, Machine] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)  # nodes that are in groups of somebody else's
    unknown: set[str] = field(default_factory=set)  # incidents that AWS did not answer for: judged next time
    entries: dict[str, list[Entry]] = field(default_factory=lambda: defaultdict(list))  # by incident
    closed: set[str] = field(default_factory=set)

    @property
    def open(self) -> list[Incident]:
        """The incidents to judge: marked, read, and not closed."""
        return [
            since_closing(one)
            for fleet in self.incidents.values()
            for one in fleet
            if one.incident in self.marks and one.closed_at is None
        ]

    @property
    def known(self) -> list[Incident]:
        """The open incidents about which everything was answered that was asked."""
        return [one for one in self.open if one.incident not in self.unknown]

    @property
    def unreplaced(self) -> list[Incident]:
        """The open incidents that have no replacement."""
        return [one for one in self.open if one.replacement_instance_id is None]

    @property
    def closing_marks(self) -> dict[str, OpenIncident]:
        """The marks to take off: of what is to be closed, and of what is closed and was marked again."""
        read = (one for fleet in self.incidents.values() for one in fleet if one.incident in self.marks)
        return {
            one.incident: self.marks[one.incident]
            for one in read
            if one.incident in self.closed or one.closed_at
        }

    def departed(self, incident: Incident) -> Departed:
        """Return what is known of an incident's node."""
        return Departed(
            machine=self.machines.get(incident.incident),
            lifecycle_state=self.membership(incident)[1],
            elsewhere=incident.incident in self.elsewhere,
        )

    def membership(self, incident: Incident) -> tuple[str | None, str | None]:
        """Return the group of its fleet that has an incident's node, and the node's state there."""
        for group in self.groups.get(incident.fleet, ()):
            if incident.incident in group.members:
                return group.name, group.members[incident.incident]
        return None, None
