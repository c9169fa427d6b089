"""What a warm function knows of the nodes that are going, from one invocation to the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from spot_failover.departures import Departure

from deregister_target.targets import Registration, TargetGroup


class Departing:
    """The nodes whose notices this function has seen, until their deadlines. A cold one has seen none."""

    def __init__(self) -> None:
        self._deadlines: dict[str, datetime] = {}
        self._registrations: dict[str, dict[str, set[Registration]]] = {}  # by instance id and target group
        self._told: set[str] = set()

    @property
    def instance_ids(self) -> frozenset[str]:
        """All that go."""
        return frozenset(self._deadlines)

    def add(self, departures: Iterable[Departure], *, now: datetime) -> None:
        """Take in departures, and drop those whose time is over."""
        self._deadlines |= {one.node.instance_id: one.deadline for one in departures}
        for instance_id in [key for key, deadline in self._deadlines.items() if deadline <= now]:
            del self._deadlines[instance_id]
            self._registrations.pop(instance_id, None)
            self._told.discard(instance_id)

    def note(self, group: TargetGroup) -> None:
        """Keep under which ports those that go are registered, or drain."""
        for target in group.targets:
            instance_id = target.registration.instance_id
            if instance_id in self._deadlines:
                groups = self._registrations.setdefault(instance_id, {})
                groups.setdefault(group.arn, set()).add(target.registration)

    def known(self, arn: str) -> Mapping[str, list[Registration]]:
        """Return the registrations in a target group, by instance id, as far as they were ever seen."""
        return {key: sorted(groups[arn]) for key, groups in self._registrations.items() if arn in groups}

    def first_hold(self, instance_id: str) -> bool:
        """Say whether nobody was told yet that this node is held; it counts as told from now on."""
        first = instance_id not in self._told
        self._told.add(instance_id)
        return first
