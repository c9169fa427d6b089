"""What came of a storm, read from what the local AWS observed. Pure: entries in, figures out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Entry = Mapping[str, Any]

OUT_OF_SERVICE = frozenset({"draining", "unused"})
LEFT_ITS_GROUP = frozenset({"Detaching", "Terminating"})
THROTTLED = frozenset(
    {
        "RequestLimitExceeded",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)


class Action(StrEnum):
    """What a departing node needs done before it is gone."""

    DEREGISTERED = "deregistered"
    TOLD = "told to drain"
    REPLACED = "replaced"


@dataclass(frozen=True)
class Notices:
    """When each node got its notice, and how long notices were. Epoch seconds, seconds."""

    at: Mapping[str, float]
    seconds: float

    @property
    def first(self) -> float:
        """The first notice."""
        return min(self.at.values())

    @property
    def last(self) -> float:
        """The last notice."""
        return max(self.at.values())

    def deadline(self, instance_id: str) -> float:
        """When a node is gone."""
        return self.at[instance_id] + self.seconds


Reached = Mapping[Action, Mapping[str, float]]
"""For each action, when it was reached for each node it was reached for in time."""


def reached(entries: Iterable[Entry], notices: Notices) -> Reached:
    """Return what was reached for each node before its own deadline."""
    seen = list(entries)
    return {
        Action.DEREGISTERED: _in_time(_deregistered(seen, notices), notices),
        Action.TOLD: _in_time(_told(seen, notices), notices),
        Action.REPLACED: _in_time(_replaced(seen, notices), notices),
    }


def _in_time(times: Mapping[str, float], notices: Notices) -> dict[str, float]:
    return {key: at for key, at in times.items() if key in notices.at and at <= notices.deadline(key)}


def _deregistered(entries: Sequence[Entry], notices: Notices) -> dict[str, float]:
    """When each node left its last target group. One that is registered again has not left it."""
    states: dict[str, dict[str, tuple[str, float]]] = defaultdict(dict)
    for entry in entries:
        key = str(entry.get("instance_id"))
        # A node's end takes it out of its target groups, too: then it is too late.
        if entry["kind"] == "target_state" and key in notices.at and entry["at"] < notices.deadline(key):
            before = states[key].get(entry["target_group"])
            stays_out = before is not None and {before[0], entry["state"]} <= OUT_OF_SERVICE
            at = before[1] if before is not None and stays_out else entry["at"]
            states[key][entry["target_group"]] = (entry["state"], at)
    return {
        key: max(at for _, at in groups.values())
        for key, groups in states.items()
        if all(state in OUT_OF_SERVICE for state, _ in groups.values())
    }


def _told(entries: Sequence[Entry], notices: Notices) -> dict[str, float]:
    """When Systems Manager first took a command for each node."""
    times: dict[str, float] = {}
    for entry in entries:
        if entry["kind"] == "command" and entry["instance_id"] in notices.at:
            times.setdefault(entry["instance_id"], entry["at"])
    return times


def _replaced(entries: Sequence[Entry], notices: Notices) -> dict[str, float]:
    """When each node had left its group, and the group had launched as many as had left so far."""
    leaving: dict[str, dict[str, float]] = defaultdict(dict)
    launched: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        if entry["kind"] != "lifecycle" or entry["at"] < notices.first:
            continue
        if entry["before"] is None:
            launched[entry["group"]].append(entry["at"])
        elif entry["state"] in LEFT_ITS_GROUP and entry["instance_id"] in notices.at:
            leaving[entry["group"]].setdefault(entry["instance_id"], entry["at"])
    return {
        key: max(left_at, launched_at)
        for group, times in leaving.items()
        for (key, left_at), launched_at in zip(times.items(), launched[group], strict=False)
    }


@dataclass(frozen=True)
class CallCount:
    """Requests of one action: all, those refused for their rate, and those that failed otherwise."""

    made: int
    throttled: int
    failed: int


def count_calls(calls: Iterable[Entry], *, roles: Sequence[str], until: float) -> dict[str, CallCount]:
    """Count requests by action: those that functions with these roles made, until an epoch second.

    Each attempt of a client counts. What Lambda does with a role by itself (polls, log lines) does not.
    """
    made: Counter[str] = Counter()
    throttled: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for call in calls:
        if call["role"] not in roles or call["by"] != "api" or call["at"] > until:
            continue
        made[call["action"]] += 1
        throttled[call["action"]] += call["result"] in THROTTLED
        failed[call["action"]] += call["result"] not in THROTTLED | {"ok"}
    return {action: CallCount(made[action], throttled[action], failed[action]) for action in sorted(made)}


def total(counts: Mapping[str, CallCount]) -> CallCount:
    """Return the sum of all actions."""
    return CallCount(
        made=sum(each.made for each in counts.values()),
        throttled=sum(each.throttled for each in counts.values()),
        failed=sum(each.failed for each in counts.values()),
    )


def complete(found: Reached, notices: Notices) -> bool:
    """Whether every node has all it needs."""
    return all(len(found[action]) == len(notices.at) for action in Action)


def seconds_of(found: Reached, notices: Notices, action: Action) -> list[float]:
    """Return for each node the seconds from its notice to the action, the shortest first.

    A node that the action did not reach in time counts with its whole notice: it cannot have had less.
    """
    return sorted(found[action].get(key, notices.deadline(key)) - at for key, at in notices.at.items())


def last_action_seconds(found: Reached, notices: Notices) -> float:
    """Return the seconds from the first notice to the last action of all; see `seconds_of`."""
    return (
        max(found[action].get(key, notices.deadline(key)) for action in Action for key in notices.at)
        - notices.first
    )


def percentile(figures: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of sorted figures."""
    rank = max(1, -(-len(figures) * percent // 100))
    return figures[int(rank) - 1]
