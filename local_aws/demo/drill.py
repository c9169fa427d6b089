"""Takes nodes away, one after another, and waits until each incident is whole."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from local_aws.control_client import Control
from local_aws.demo.capacity import capacity_gap
from local_aws.demo.errors import FleetNotReadyError
from local_aws.demo.fleet_watch import FleetWatch
from local_aws.demo.incident_record import IncidentRecord
from local_aws.demo.interruptions import Interruption
from local_aws.demo.node_facts import boot_of, requests_on
from local_aws.demo.progress import Progress
from local_aws.demo.traffic import Traffic

# A notice should find requests on the node that will still run when the drain begins, a second or two later.
LASTING_SECONDS = 2.5
GOOD_MOMENT_SECONDS = 30.0
# Beyond the notice: an engine's start on a busy machine, several times over.
INCIDENT_SECONDS = 240.0
LOOK_SECONDS = 0.5
_FROM_ELSEWHERE = frozenset({"capacity_gap_seconds"})


def choose_node(loads: Mapping[str, int]) -> str:
    """Take the node that holds the most requests; the first (the oldest) of those that hold the same."""
    if not loads:
        raise FleetNotReadyError("no node is healthy, so there is none to take away")
    return max(loads, key=lambda instance_id: loads[instance_id])


def until_next_second(now: float) -> float:
    """Return the seconds to wait for a notice whose time an event can carry.

    An event's time has whole seconds. A notice at the beginning of one is recorded as it was; any other would
    be recorded as up to a second earlier, and every figure of the incident would be longer by that.
    """
    return math.ceil(now) - now + 0.005


@dataclass(frozen=True, kw_only=True)
class Drill:
    """What an interruption needs around it."""

    control: Control
    watch: FleetWatch
    record: IncidentRecord
    traffic: Traffic
    progress: Progress
    desired: int
    notice_seconds: int

    def interrupt_one(self) -> Interruption:
        """Take one node away and return its whole incident, or what there is of it when time is over."""
        leaving = self._choose()
        noticed_at = self.control.interrupt(leaving, notice_seconds=self.notice_seconds)
        self.progress.step(f"NOTICE: {leaving} will be taken in {self.notice_seconds} s")
        limit = time.monotonic() + self.notice_seconds + INCIDENT_SECONDS
        told: set[str] = set()
        while True:
            seen = self._look(leaving, noticed_at)
            self._tell(seen, told)
            if _is_whole(seen) or time.monotonic() > limit:
                return self._measured(seen)
            time.sleep(LOOK_SECONDS)

    def with_final_gap(self, interruption: Interruption, *, end: float) -> Interruption:
        """Measure the capacity gap up to `end` (epoch seconds): the next notice, or the traffic's end."""
        gap = capacity_gap(
            self.watch.capacity(),
            desired=self.desired,
            begin=interruption.noticed_at.timestamp(),
            end=end,
        )
        return replace(interruption, capacity_gap_seconds=gap.seconds, capacity_restored=gap.closed)

    def _choose(self) -> str:
        """Return the node to take away, at the beginning of a second in which it holds a request that lasts.

        After 30 s any moment will do.
        """
        give_up_at = time.monotonic() + GOOD_MOMENT_SECONDS
        while True:
            wait_until(self._is_good_moment, seconds=give_up_at - time.monotonic())
            time.sleep(until_next_second(time.time()))
            loads = {node.instance_id: requests_on(node) or 0 for node in self.watch.healthy()}
            # What was in flight a second ago may have been answered since.
            good = self._is_good_moment() and max(loads.values(), default=0) > 0
            if good or time.monotonic() > give_up_at:
                return choose_node(loads)

    def _is_good_moment(self) -> bool:
        """Whether every node should hold a request that lasts."""
        return self.traffic.in_flight_for(LASTING_SECONDS) >= len(self.watch.healthy())

    def _look(self, instance_id: str, noticed_at: float) -> Interruption:
        seen = self.record.interruption(
            instance_id, noticed_at=noticed_at, deadline=noticed_at + self.notice_seconds
        )
        gap = capacity_gap(
            self.watch.capacity(), desired=self.desired, begin=seen.noticed_at.timestamp(), end=time.time()
        )
        return replace(
            seen,
            capacity_restored=gap.closed and gap.seconds > 0,
            boot=boot_of(self.watch.nodes(), seen.replacement_instance_id),
        )

    def _measured(self, seen: Interruption) -> Interruption:
        return self.with_final_gap(seen, end=time.time())

    def _tell(self, seen: Interruption, told: set[str]) -> None:
        for at, name in seen.steps():
            if name != "notice" and name not in told:
                told.add(name)
                after = (at - seen.noticed_at).total_seconds()
                self.progress.step(f"{seen.instance_id} +{after:.1f} s: {name}")


def wait_until(condition: Callable[[], bool], *, seconds: float, look_seconds: float = LOOK_SECONDS) -> bool:
    """Look until the condition holds or the seconds are over; return whether it held."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(look_seconds)
    return True


def _is_whole(seen: Interruption) -> bool:
    if seen.boot is None or seen.boot.missing_phases():
        return False
    return seen.capacity_restored and not set(seen.missing_steps()) - _FROM_ELSEWHERE
