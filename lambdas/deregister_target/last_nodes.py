"""Who leaves a target group and who stays in it, because nobody else could serve: decisions only."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from spot_failover.departures import Departure

from deregister_target.targets import DRAINING, HEALTHY, UNUSED, Registration, TargetGroup

LOOK_CLOSELY = timedelta(seconds=15)
"""For so long after its notice a held node is looked at each second: its group may deregister it any time."""


@dataclass(frozen=True)
class Plan:
    """What to do in one target group.

    `out` nodes are on their way out already, `absent` ones are not in it. `unneeded` are those who leave a
    group that no listener forwards to: nobody would be missed there.
    """

    deregister: tuple[Registration, ...] = ()
    register: tuple[Registration, ...] = ()
    held: frozenset[str] = frozenset()
    out: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    unneeded: frozenset[str] = frozenset()


def somebody_stays(group: TargetGroup, leaving: Collection[str]) -> bool:
    """Say whether a target is healthy whose instance is not about to go."""
    return any(
        target.state == HEALTHY and target.registration.instance_id not in leaving for target in group.targets
    )


def plan(
    group: TargetGroup,
    departures: Iterable[Departure],
    *,
    leaving: Collection[str],
    known: Mapping[str, Collection[Registration]],
    now: datetime,
    reserve: timedelta,
) -> Plan:
    """Return what to do with the departing nodes in one target group.

    A node leaves at once if somebody else stays who can serve, and it leaves `reserve` before its deadline in
    any case. Else it is held: registered it serves on, for a load balancer with unhealthy targets alone sends
    requests to all of them. What is held and drains, because somebody else deregistered it, is registered
    again, and so is what has gone from the group meanwhile: `known` are each node's registrations so far.
    `leaving` are all instances known to go, these and others.
    """
    stays = somebody_stays(group, leaving)
    deregister: list[Registration] = []
    register: list[Registration] = []
    fates: dict[str, set[str]] = {name: set() for name in ("held", "out", "absent", "unneeded")}
    for departure in departures:
        instance_id = departure.node.instance_id
        mine = list(group.of(instance_id))
        present = [one.registration for one in mine if one.state != DRAINING]
        draining = [one.registration for one in mine if one.state == DRAINING]
        lost = [one for one in known.get(instance_id, ()) if one not in present]
        unneeded = bool(mine) and all(one.state == UNUSED for one in mine)
        if unneeded:
            fates["unneeded"].add(instance_id)
        if stays or departure.deadline - now <= reserve or unneeded:
            deregister += present
            if not present:
                fates["out" if draining else "absent"].add(instance_id)
        elif present or draining or lost:
            fates["held"].add(instance_id)
            register += dict.fromkeys([*draining, *lost])
        else:
            fates["absent"].add(instance_id)
    sets = {name: frozenset(ids) for name, ids in fates.items()}
    return Plan(deregister=tuple(deregister), register=tuple(register), **sets)


def look_again_seconds(departure: Departure, *, now: datetime) -> int:
    """Return after how many seconds a held node is looked at again."""
    return 1 if now - departure.noticed_at < LOOK_CLOSELY else 2
