"""What is seen of a case, and what must hold in every one of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.local.faults.driver import Delivered
from tests.local.faults.fleets import NODES_EACH, BareFleet
from tests.local.faults.plane import Plane

DENIALS = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")


@dataclass
class Effects:
    """What changed in AWS during a case, by instance."""

    detached: Counter[str] = field(default_factory=Counter)
    deregistered: Counter[str] = field(default_factory=Counter)
    commanded: Counter[str] = field(default_factory=Counter)
    terminated: Counter[str] = field(default_factory=Counter)
    launched: Counter[str] = field(default_factory=Counter)
    """By fleet."""
    refused: list[str] = field(default_factory=list)
    """Calls of a function that its role does not permit."""

    @property
    def touched(self) -> set[str]:
        """All instances that anything was done to."""
        return set(self.detached) | set(self.deregistered) | set(self.commanded) | set(self.terminated)


def effects_in(timeline: Iterable[Mapping[str, Any]]) -> Effects:
    """Read a timeline."""
    effects = Effects()
    for entry in timeline:
        match entry:
            case {"kind": "lifecycle", "state": "Detaching", "instance_id": instance_id}:
                effects.detached[instance_id] += 1
            case {"kind": "lifecycle", "state": "Terminating", "instance_id": instance_id}:
                effects.terminated[instance_id] += 1
            case {"kind": "target_state", "state": "draining", "instance_id": instance_id}:
                effects.deregistered[instance_id] += 1
            case {"kind": "command", "status": "Pending", "instance_id": instance_id}:
                effects.commanded[instance_id] += 1
            case {"kind": "node_started", "fleet": fleet}:
                effects.launched[fleet] += 1
            case {"kind": "api_call", "result": result, "action": action} if result in DENIALS:
                effects.refused.append(action)
    return effects


# Of each function: how its success is recorded, and what it changes.
SUCCESSES = {
    "deregister_target": {"deregistered", "not_registered"},
    "drain_node": {"commanded"},
    "request_replacement": {"detached", "already_detached"},
}
# What says that a step is not over.
UNDER_WAY = {"retrying", "not_managed", "held"}
CHANGES: dict[str, Callable[[Effects, str], int]] = {
    "deregister_target": lambda effects, node: effects.deregistered[node],
    "drain_node": lambda effects, node: effects.commanded[node],
    "request_replacement": lambda effects, node: effects.detached[node],
}


@dataclass
class Seen:
    """A case when it is over."""

    delivered: Delivered
    effects: Effects
    outcomes: Mapping[str, list[str]]
    """Instance id -> the outcomes on record, in order."""
    dead_letters: Sequence[Mapping[str, Any]]
    left: Sequence[Mapping[str, Any]]
    entries: Sequence[Mapping[str, str]]

    def receptions_of(self, body: str) -> int:
        """How often a message was handed to the function."""
        return self.delivered.receptions[body]

    def dead_letter_of(self, body: str) -> Mapping[str, Any] | None:
        """Return a message's dead letter, if it ended there."""
        return next((letter for letter in self.dead_letters if letter["body"] == body), None)


class Case:
    """One case on the shared plane. Leaving it as a context clears up behind it, whatever came of it."""

    def __init__(self, plane: Plane, function: str) -> None:
        self.plane = plane
        self.function = function
        self.driver = plane.drivers[function]
        self.delivered = Delivered()
        self._seen: Seen | None = None

    def __enter__(self) -> Case:
        self.plane.new_case()
        self.plane.news()
        return self

    def __exit__(self, *_: object) -> None:
        self._clean_up(self._seen or self.look())

    def look(self) -> Seen:
        """Return what is to be seen now that it is over."""
        plane, driver = self.plane, self.driver
        driver.function.end_environment()
        plane.aws.control.clear_faults()
        timeline = plane.news()
        entries = sorted(plane.entries(), key=lambda one: one["entry"])
        outcomes: dict[str, list[str]] = defaultdict(list)
        for entry in entries:
            if "outcome" in entry:
                outcomes[entry["incident"]].append(entry["outcome"])
        seen = Seen(
            delivered=self.delivered,
            effects=effects_in(timeline),
            outcomes=outcomes,
            dead_letters=driver.dead_letters(),
            left=plane.aws.control.queue_messages(driver.queue_name),
            entries=entries,
        )
        self._seen = seen
        return seen

    def _clean_up(self, seen: Seen) -> None:
        fleets = self.plane.fleets
        self.plane.forget_incidents(seen.entries)
        if seen.left:
            self.driver.purge()
        if seen.effects.detached:
            fleets.end(list(seen.effects.detached))
        for fleet in self.plane:
            still_there = [
                one
                for one in fleets.known(fleet)
                if one in seen.effects.deregistered and one not in seen.effects.detached
            ]
            if still_there:
                fleets.register(fleet, still_there)

    def nothing_else_happened(
        self,
        seen: Seen,
        *,
        nodes: Collection[str],
        messages: Collection[str],
        refusals: Collection[str] = (),
        most_letters: int = 1,
        not_replaced: Collection[str] = (),
    ) -> None:
        """Hold what must hold whatever fails: nobody else is harmed, nothing twice, nothing lost."""
        effects = seen.effects
        assert effects.touched <= set(nodes), "something was done to a node without a notice"
        assert set(seen.outcomes) <= set(nodes), "an incident of a node without a notice"
        assert all(count == 1 for count in effects.detached.values()), "a node was detached twice"
        assert not effects.terminated, "a node was ended"
        desired = self.plane.fleets.desired()
        assert set(desired.values()) == {NODES_EACH}, "a desired capacity has changed"
        missing = set(effects.detached) - set(not_replaced)
        detached_of = Counter(self.plane.fleets.fleet_of(one) for one in missing)
        assert effects.launched == detached_of, "not one replacement for each detached node"
        assert set(effects.refused) <= set(refusals), "a function asked for what its role does not permit"
        assert not seen.left, "a message is neither handled nor dead-lettered"
        letters = Counter(letter["body"] for letter in seen.dead_letters)
        assert set(letters) <= set(messages)
        assert all(count <= most_letters for count in letters.values()), "dead-lettered too often"


def nodes_of(plane: Plane, function: str) -> list[tuple[BareFleet, str]]:
    """Return one node of each fleet for a case of this function: fresh ones where they will be detached."""
    take = plane.fleets.take if function == "request_replacement" else plane.fleets.steady
    return [(fleet, take(fleet)) for fleet in plane]
