"""The targets of all target groups: their states, their requests, and who gets the next one."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from local_aws.load_balancing.target_health import (
    REGISTERED,
    CheckResult,
    Health,
    HealthCheck,
    Reason,
    TargetState,
    after_check,
)
from local_aws.world import Timeline


@dataclass(frozen=True)
class GroupSettings:
    """What a target group's targets are treated by; `in_use` says whether a load balancer forwards to it."""

    arn: str
    name: str
    port: int
    check: HealthCheck
    deregistration_delay: float
    least_outstanding: bool
    in_use: bool


@dataclass(eq=False)
class Lease:
    """One request on its way through a target; its task is cancelled with `cut` set when draining is over."""

    target: Target
    task: asyncio.Task[object] | None = None
    cut: bool = False


@dataclass(eq=False)
class Target:
    """One registered target. `in_flight` requests are those with a lease."""

    group_arn: str
    target_id: str
    port: int
    address: str
    health: Health = REGISTERED
    drains_until: float | None = None
    next_check_at: float = 0.0
    checking: bool = False
    checked_before: bool = False
    """The check under way began before the target was registered anew, and says nothing about it."""
    requests: int = 0
    leases: set[Lease] = field(default_factory=set)

    @property
    def state(self) -> TargetState:
        """The state that DescribeTargetHealth shows."""
        return self.health.state

    @property
    def registered(self) -> bool:
        """Whether the target still belongs to its group."""
        return self.state is not TargetState.UNUSED

    @property
    def in_flight(self) -> int:
        """How many requests the target has not answered yet."""
        return len(self.leases)


class Targets:
    """Thread-safe; the lock is held for moments only and never while another lock is asked for."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._lock = threading.Lock()
        self._targets: dict[tuple[str, str, int], Target] = {}
        self._of: dict[str, list[Target]] = defaultdict(list)
        """The same by target id: a group asks after each of its members, many times a second."""
        self._settings: dict[str, GroupSettings] = {}
        self._turn = itertools.count()

    def configure(self, settings: GroupSettings) -> None:
        """Take over a target group's settings, new or changed."""
        with self._lock:
            self._settings[settings.arn] = settings

    def register(self, arn: str, target_id: str, *, port: int | None, address: str) -> None:
        """Register a target, or bring one that is draining back to its beginning."""
        with self._lock:
            settings = self._settings[arn]
            key = (arn, target_id, port or settings.port)
            known = self._targets.get(key)
            if known is not None and known.state not in (TargetState.DRAINING, TargetState.UNUSED):
                return
            target = known or Target(arn, target_id, key[2], address)
            if known is None:
                self._of[target_id].append(target)
            target.drains_until, target.next_check_at = None, 0.0
            target.checked_before = target.checking
            self._targets[key] = target
            self._change(target, REGISTERED, since="none" if known is None else known.state)

    def deregister(self, arn: str, target_id: str, *, port: int | None) -> None:
        """Start to drain a target. One that is not registered, or drains already, is left as it is."""
        with self._lock:
            settings = self._settings[arn]
            target = self._targets.get((arn, target_id, port or settings.port))
            if target is None or target.state in (TargetState.DRAINING, TargetState.UNUSED):
                return
            target.drains_until = time.monotonic() + settings.deregistration_delay
            self._change(
                target,
                Health(TargetState.DRAINING, Reason.DEREGISTERING, "Target deregistration is in progress"),
            )

    def forget_instance(self, target_id: str) -> None:
        """Take a target out of every group: its instance is gone."""
        with self._lock:
            for target in self._of.get(target_id, ()):
                if target.registered:
                    self._change(target, _unused(Reason.INVALID_STATE, "Target is in the terminated state"))

    def forget_group(self, arn: str) -> None:
        """Drop a target group that was deleted, with all its targets."""
        with self._lock:
            self._settings.pop(arn, None)
            for key in [key for key in self._targets if key[0] == arn]:
                target = self._targets.pop(key)
                self._of[target.target_id].remove(target)

    def drained(self, target_id: str) -> bool:
        """Say whether no request is in flight any more on a deregistered target, in any group.

        The target is then done although it is shown as draining until the delay is over (user guide,
        "Deregistration delay").
        """
        with self._lock:
            mine = self._of.get(target_id, ())
            return all(not t.leases for t in mine if t.state is TargetState.DRAINING)

    def health(self, arn: str, target_id: str, port: int | None = None) -> tuple[int, Health]:
        """Return a target's port and health, also for one that was never registered."""
        with self._lock:
            settings = self._settings[arn]
            target = self._targets.get((arn, target_id, port or settings.port))
            if target is None or not target.registered:
                return port or settings.port, _unused(
                    Reason.NOT_REGISTERED, "Target is not registered to the target group"
                )
            return target.port, self._visible(target, settings)

    def registered(self, arn: str) -> list[Target]:
        """Return a group's targets, those that drain included."""
        with self._lock:
            return [t for t in self._targets.values() if t.group_arn == arn and t.registered]

    def states_of(self, target_id: str) -> dict[str, str]:
        """Return, for each target group an instance is or was in, its state there."""
        with self._lock:
            return {
                t.group_arn: self._visible(t, self._settings[t.group_arn]).state.value
                for t in self._of.get(target_id, ())
            }

    def is_unhealthy(self, target_id: str, arns: Collection[str]) -> bool:
        """Say whether an instance is unhealthy in any of these target groups: those attached to its group."""
        with self._lock:
            mine = self._of.get(target_id, ())
            return any(t.group_arn in arns and t.state is TargetState.UNHEALTHY for t in mine)

    def acquire(self, arns: Sequence[str]) -> Lease | None:
        """Choose a target of the groups for one request; None if there is none to choose.

        Healthy targets only, or, where none is, all that are registered ("fail open"; user guide, "Health
        checks" and "Update health settings for your Application Load Balancer target group"). One whose first
        checks are under way is registered (open-guides/og-aws#116 saw it get some), one that drains is not.
        """
        with self._lock:
            candidates = [t for t in self._targets.values() if t.group_arn in arns]
            usable = [t for t in candidates if t.state is TargetState.HEALTHY] or [
                t for t in candidates if t.state in (TargetState.UNHEALTHY, TargetState.INITIAL)
            ]
            if not usable:
                return None
            turn = next(self._turn)
            rotated = usable[turn % len(usable) :] + usable[: turn % len(usable)]
            least = self._settings[rotated[0].group_arn].least_outstanding
            target = min(rotated, key=lambda t: t.in_flight) if least else rotated[0]
            lease = Lease(target)
            target.leases.add(lease)
            target.requests += 1
            return lease

    def release(self, lease: Lease) -> None:
        """End a request."""
        with self._lock:
            lease.target.leases.discard(lease)

    def due_checks(self, now: float) -> list[tuple[Target, HealthCheck]]:
        """Return the targets to check now, and plan their next checks; `now` is monotonic."""
        with self._lock:
            due = []
            for target in self._targets.values():
                settings = self._settings[target.group_arn]
                checked = target.state not in (TargetState.DRAINING, TargetState.UNUSED)
                if checked and settings.in_use and not target.checking and now >= target.next_check_at:
                    target.checking, target.next_check_at = True, now + settings.check.interval
                    due.append((target, settings.check))
            return due

    def checked(self, target: Target, result: CheckResult, check: HealthCheck) -> None:
        """Take in a check's result."""
        with self._lock:
            target.checking, stale, target.checked_before = False, target.checked_before, False
            if stale:
                return
            self._change(target, after_check(target.health, result, check))

    def end_draining(self, now: float) -> list[Lease]:
        """Deregister the targets whose delay is over; return the requests that are still in flight there."""
        with self._lock:
            cut: list[Lease] = []
            for target in self._targets.values():
                if target.drains_until is not None and now >= target.drains_until:
                    target.drains_until = None
                    if target.state is TargetState.DRAINING:
                        cut += target.leases
                        self._change(
                            target,
                            _unused(Reason.NOT_REGISTERED, "Target is not registered to the target group"),
                        )
            return cut

    def counts(self) -> list[dict[str, object]]:
        """Return each target's requests so far and in flight."""
        with self._lock:
            return [
                {
                    "target_group": t.group_arn,
                    "target": t.target_id,
                    "state": t.state.value,
                    "requests": t.requests,
                    "in_flight": t.in_flight,
                }
                for t in self._targets.values()
            ]

    def _change(self, target: Target, health: Health, *, since: str | None = None) -> None:
        before, target.health = since or target.state.value, health
        if before != health.state.value:
            self._timeline.record(
                "target_state",
                instance_id=target.target_id,
                target_group=target.group_arn,
                before=before,
                state=health.state.value,
                reason=health.reason.value if health.reason else None,
                in_flight=target.in_flight,
            )

    @staticmethod
    def _visible(target: Target, settings: GroupSettings) -> Health:
        if target.state is TargetState.INITIAL and not settings.in_use:
            return _unused(
                Reason.NOT_IN_USE, "Target group is not configured to receive traffic from a listener"
            )
        return target.health


def _unused(reason: Reason, description: str) -> Health:
    return Health(TargetState.UNUSED, reason, description)
