"""Takes node after node, each time when the fleet is whole, and keeps what is on record of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bench.endurance.options import Profile
from local_aws.control_client import Control
from local_aws.demo.capacity import capacity_gap
from local_aws.demo.drill import INCIDENT_SECONDS, choose_node, until_next_second, wait_until
from local_aws.demo.fleet_watch import FleetWatch
from local_aws.demo.incident_record import IncidentRecord
from local_aws.demo.interruptions import Interruption
from local_aws.demo.node_facts import requests_on

# The demo looks at boots; here the fleet's capacity is measured once all is over.
APART = frozenset({"boot", "capacity_gap_seconds"})
LOOK_SECONDS = 0.25
# From a node's end until the last of its incident is on record.
RECORD_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Round:
    """One notice and how long (seconds) the fleet took to be whole again; None: it was not, in time."""

    number: int
    instance_id: str
    noticed_at: float
    deadline: float
    whole_seconds: float | None
    recovery_seconds: float | None


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What the rounds need around them. `witness` is a node that is never taken; None: every node may be."""

    control: Control
    watch: FleetWatch
    record: IncidentRecord
    profile: Profile
    witness: str | None
    played: list[Round] = field(default_factory=list)

    def play(self, interruptions: int, *, tell: Callable[[Round], None]) -> None:
        """Play the rounds, one after another; end early where the fleet does not become whole again."""
        for number in range(1, interruptions + 1):
            done = self._play_one(number)
            self.played.append(done)
            tell(done)
            if done.whole_seconds is None:
                return

    def await_last(self) -> None:
        """Wait until the last drains are over and on record, or should have been."""
        wait_until(self._all_on_record, seconds=self.profile.notice_seconds + RECORD_SECONDS)

    def interruptions(self, *, end: float) -> list[Interruption]:
        """Return every incident as it stands; the traffic ended at `end` (epoch seconds)."""
        points = self.watch.capacity()
        ends = [*(each.noticed_at for each in self.played[1:]), end]
        found: list[Interruption] = []
        for played, until in zip(self.played, ends, strict=True):
            gap = capacity_gap(points, desired=self.profile.nodes, begin=played.noticed_at, end=until)
            seen = self._on_record(played)
            found.append(replace(seen, capacity_gap_seconds=gap.seconds, capacity_restored=gap.closed))
        return found

    def _play_one(self, number: int) -> Round:
        candidates = [
            node
            for node in self.watch.healthy()
            if node.instance_id != self.witness and node.noticed_at is None
        ]
        leaving = choose_node({node.instance_id: requests_on(node) or 0 for node in candidates})
        time.sleep(until_next_second(time.time()))
        notice = self.profile.notice_seconds
        noticed_at = self.control.interrupt(leaving, notice_seconds=notice)
        begun = Round(number, leaving, noticed_at, noticed_at + notice, None, None)
        whole = wait_until(
            lambda: self._is_whole(begun), seconds=notice + INCIDENT_SECONDS, look_seconds=LOOK_SECONDS
        )
        return replace(
            begun,
            whole_seconds=time.time() - noticed_at if whole else None,
            recovery_seconds=self._on_record(begun).recovery_seconds,
        )

    def _is_whole(self, begun: Round) -> bool:
        """Whether the replacement serves, and the whole fleet with it."""
        healthy = {node.instance_id for node in self.watch.healthy()} - {begun.instance_id}
        if len(healthy) < self.profile.nodes:
            return False
        seen = self._on_record(begun)
        if seen.replacement_in_service_at is None or seen.replacement_instance_id not in healthy:
            return False
        return self.profile.drains_overlap or not missing(seen)

    def _all_on_record(self) -> bool:
        # The last first: as a rule it is the one that is not.
        return not any(missing(self._on_record(played)) for played in reversed(self.played))

    def _on_record(self, played: Round) -> Interruption:
        return self.record.interruption(
            played.instance_id, noticed_at=played.noticed_at, deadline=played.deadline
        )


def missing(seen: Interruption) -> Sequence[str]:
    """Name what the control plane has not put on record."""
    return [name for name in seen.missing_steps() if name not in APART]
