"""One storm: many nodes interrupted at once, and what a contender made of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.control_plane import outcome
from bench.control_plane.contenders import Contender
from bench.control_plane.load import Load, LoadSampler, load_between
from bench.control_plane.outcome import Action, CallCount, Notices, Reached
from local_aws.control_client import Control
from local_aws.session import LocalAws

LOOK_SECONDS = 1.0
# A function that acted has its messages to settle and its record to write.
QUIET_SECONDS = 3.0
# Boots take 20 s and drains 15: by then they are reported, and what keeps the record has begun.
REPORTED_AFTER_SECONDS = 25.0
# After the deadline: what came too late is to be seen as that.
AFTER_DEADLINE_SECONDS = 2.0


@dataclass(frozen=True)
class Storm:
    """A storm that is over."""

    contender: Contender
    notices: Notices
    found: Reached
    calls: Mapping[str, CallCount]
    record_calls: Mapping[str, CallCount]
    load: Load
    buckets: Mapping[str, Any]

    @property
    def nodes(self) -> int:
        """How many nodes got a notice."""
        return len(self.notices.at)

    def share(self, action: Action) -> float:
        """For which share of the nodes an action was reached in time."""
        return len(self.found[action]) / self.nodes

    @property
    def complete(self) -> bool:
        """Whether every node got all it needs in time."""
        return outcome.complete(self.found, self.notices)

    @property
    def last_action_seconds(self) -> float:
        """Seconds from the first notice to the last action; one that never came counts to the deadline."""
        return outcome.last_action_seconds(self.found, self.notices)

    @property
    def calls_per_interruption(self) -> float:
        """Requests of the notice functions for each interruption, refused ones and retries included."""
        return outcome.total(self.calls).made / self.nodes

    def to_json(self) -> dict[str, Any]:
        """Return all figures."""
        return {
            "contender": self.contender.name,
            "nodes": self.nodes,
            "notice_seconds": self.notices.seconds,
            "notices_within_seconds": round(self.notices.last - self.notices.first, 3),
            "in_time": {action.value: round(self.share(action), 4) for action in Action},
            "seconds_to_last_action": round(self.last_action_seconds, 2),
            "seconds": {action.value: self._seconds(action) for action in Action},
            "calls_per_interruption": round(self.calls_per_interruption, 3),
            "calls": {name: asdict(count) for name, count in self.calls.items()},
            "record_calls_per_interruption": round(outcome.total(self.record_calls).made / self.nodes, 3),
            "record_calls": {name: asdict(count) for name, count in self.record_calls.items()},
            "throttled_calls": outcome.total(self.calls).throttled,
            "load": self.load.to_json(),
            "buckets": {
                name: {key: bucket[key] for key in ("capacity", "refill_per_second", "taken", "refused")}
                for name, bucket in self.buckets.items()
            },
        }

    def _seconds(self, action: Action) -> dict[str, float]:
        figures = outcome.seconds_of(self.found, self.notices, action)
        return {
            "p50": round(outcome.percentile(figures, 50), 2),
            "p95": round(outcome.percentile(figures, 95), 2),
            "last": round(figures[-1], 2),
        }


class Observer:
    """Reads what happened, each entry once."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.entries: list[dict[str, Any]] = []

    def look(self) -> list[dict[str, Any]]:
        """Return all entries there are by now."""
        self.entries += self._control.timeline(len(self.entries))
        return self.entries


def run_storm(
    aws: LocalAws, contender: Contender, instance_ids: Sequence[str], *, notice_seconds: float = 120.0
) -> Storm:
    """Interrupt nodes at once, with full buckets, and watch until all is done or the last node is gone.

    The nodes themselves do not see the notice: what is measured is what a control plane does.
    """
    control = aws.control
    observer = Observer(control)
    observer.look()
    control.throttle(True)
    with LoadSampler(aws.pid) as sampler:
        times = control.interrupt_all(instance_ids, notice_seconds=notice_seconds, imds=False)
        notices = Notices(dict(zip(instance_ids, times, strict=True)), notice_seconds)
        ended_at = _watch(observer, notices)
        found = outcome.reached(observer.entries, notices)
        buckets = control.throttling()["buckets"]
        done = outcome.complete(found, notices)
        settled_at = _quiet(control, contender.roles, notices) if done else ended_at
    if done and contender.record_roles:
        time.sleep(max(0.0, notices.last + REPORTED_AFTER_SECONDS - time.time()))
        _quiet(control, contender.record_roles, notices)
    control.throttle(False)
    calls = [call for call in control.calls() if call["at"] >= notices.first]
    return Storm(
        contender=contender,
        notices=notices,
        found=found,
        calls=outcome.count_calls(calls, roles=contender.roles, until=settled_at),
        record_calls=outcome.count_calls(calls, roles=contender.record_roles, until=time.time()),
        load=load_between(sampler.samples, notices.first - 1, max(ended_at, notices.first + 1)),
        buckets={name: bucket for name, bucket in buckets.items() if bucket["taken"] or bucket["refused"]},
    )


def _watch(observer: Observer, notices: Notices) -> float:
    """Wait until every node has what it needs, or is gone; return when that was."""
    over_at = notices.last + notices.seconds + AFTER_DEADLINE_SECONDS
    while time.time() < over_at:
        found = outcome.reached(observer.look(), notices)
        if outcome.complete(found, notices):
            return max(at for times in found.values() for at in times.values())
        time.sleep(LOOK_SECONDS)
    observer.look()
    return over_at


def _quiet(control: Control, roles: Sequence[str], notices: Notices) -> float:
    """Wait until these roles call nobody any more, and return that time (an epoch second)."""
    give_up_at = notices.last + notices.seconds
    while time.time() < give_up_at:
        mine = [call["at"] for call in control.calls() if call["role"] in roles and call["by"] == "api"]
        if not mine or time.time() - max(mine) > QUIET_SECONDS:
            break
        time.sleep(LOOK_SECONDS)
    return time.time()
