"""Which fleet an event is about, if there is such a fleet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from spot_failover.errors import AwsCallError
from spot_failover.fleets import FleetDirectory

from track_incident.events import LaunchEvent, TrackedEvent
from track_incident.node_events import NodeEvent

T = TypeVar("T")


@dataclass(frozen=True)
class KnownFleets:
    """The fleets of a batch that exist: by their groups' names, and by their own; or why nobody can tell."""

    by_group: Mapping[str, str] | AwsCallError
    names: frozenset[str] | AwsCallError

    def of(self, event: LaunchEvent | NodeEvent) -> str | None:
        """Return the event's fleet, None where there is none: anybody can write the name of one.

        Raises AwsCallError.
        """
        if isinstance(event, NodeEvent):
            return event.fleet if event.fleet in _known(self.names) else None
        return _known(self.by_group).get(event.group_name)


def find_fleets(directory: FleetDirectory, events: Collection[TrackedEvent], *, now: datetime) -> KnownFleets:
    """Look the fleets of a batch up. A lookup that fails for one kind of events fails for no other."""
    groups = {one.group_name for one in events if isinstance(one, LaunchEvent)}
    by_group: Mapping[str, str] | AwsCallError
    names: frozenset[str] | AwsCallError
    try:
        by_group = directory.fleets_of_groups(groups)
    except AwsCallError as error:
        by_group = error
    try:
        by_name = directory.fleets({one.fleet for one in events if isinstance(one, NodeEvent)}, now=now)
        names = frozenset(name for name, fleet in by_name.items() if fleet.groups)
    except AwsCallError as error:
        names = error
    return KnownFleets(by_group, names)


def _known(looked_up: T | AwsCallError) -> T:
    if isinstance(looked_up, AwsCallError):
        raise looked_up
    return looked_up
