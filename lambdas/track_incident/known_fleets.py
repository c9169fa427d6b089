"""Which fleet an event is about, if there is such a fleet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from spot_failover.fleets import FleetDirectory

from track_incident.events import LaunchEvent, TrackedEvent
from track_incident.node_events import NodeEvent


@dataclass(frozen=True)
class KnownFleets:
    """The fleets of a batch that exist: by their groups' names, and by their own."""

    by_group: Mapping[str, str]
    names: frozenset[str]

    def of(self, event: LaunchEvent | NodeEvent) -> str | None:
        """Return the event's fleet, None where there is none: anybody can write the name of one."""
        if isinstance(event, NodeEvent):
            return event.fleet if event.fleet in self.names else None
        return self.by_group.get(event.group_name)


def find_fleets(directory: FleetDirectory, events: Collection[TrackedEvent], *, now: datetime) -> KnownFleets:
    """Look the fleets of a batch up, each kind in at most one call. Raises AwsCallError."""
    by_group = directory.fleets_of_groups({one.group_name for one in events if isinstance(one, LaunchEvent)})
    by_name = directory.fleets({one.fleet for one in events if isinstance(one, NodeEvent)}, now=now)
    return KnownFleets(by_group, frozenset(name for name, fleet in by_name.items() if fleet.groups))
