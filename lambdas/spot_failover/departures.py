"""What an action is given and what it answers, and the decisions around it that need no AWS."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from spot_failover.batches import chunks
from spot_failover.errors import THROTTLING_CODES, AwsCallError, RetryableAwsError
from spot_failover.fleets import Node
from spot_failover.incidents import Entry
from spot_failover.messages import Settlement
from spot_failover.notices import Notice
from spot_failover.outcomes import OUTSIDE_INCIDENTS, Disposition, Outcome, Step, disposition

# What an action is asked about at a time: ten to twenty calls, so that a function can stop between them.
PART_NODES = 200
PART_FLEETS = 10


@dataclass(frozen=True)
class Departure:
    """A node of ours that is going, and by when.

    `repeated`: its message was received before, and what was done then may not be on record.
    """

    node: Node
    noticed_at: datetime
    deadline: datetime
    repeated: bool = False


@dataclass(frozen=True)
class ActionResult:
    """What an action did for one node, and why. `detail` holds JSON values.

    A retry comes back within `look_again` seconds, where the action knows better than the queue's backoff.
    What only repeats an earlier result of the same notice is not `told` again.
    """

    outcome: Outcome
    detail: Mapping[str, Any] = field(default_factory=dict)
    look_again: int | None = None
    told: bool = True


# Says whether it is too late to begin another call: one that hangs must not outlast the function.
Late = Callable[[], bool]
# Acts on all departures of a batch at the given time; answers for each, by instance id, and raises nothing
# that stops the others. It makes its first call in any case, and answers BUSY for what it was too late for.
Action = Callable[[Sequence[Departure], datetime, Late], Mapping[str, ActionResult]]
BUSY = ActionResult(Outcome.RETRYING, {"reason": "too much at once"})
# Splits the departures of a storm into what an action is asked about at a time.
Parts = Callable[[Iterable[Departure]], Sequence[Sequence[Departure]]]


def earliest_notices(notices: Iterable[Notice], *, now: datetime) -> dict[str, Notice]:
    """Return one notice for each instance: of several, the one with the earliest deadline that is ahead."""
    chosen: dict[str, Notice] = {}
    for notice in sorted(notices, key=lambda notice: (notice.deadline <= now, notice.deadline)):
        chosen.setdefault(notice.instance_id, notice)
    return chosen


def result_for(notice: Notice, result: ActionResult, *, now: datetime) -> ActionResult:
    """Return what a node's result means for one of its notices: a stale one must not end a live one."""
    if result.outcome is Outcome.MISSED and now < notice.deadline:
        return ActionResult(Outcome.RETRYING, {"reason": "another notice's deadline passed"})
    return result


def triage(
    notice: Notice, node: Node | None, *, now: datetime, repeated: bool = False
) -> Departure | ActionResult:
    """Return the departure to act on, or the result where there is nothing to do: foreign, or too late."""
    if node is None:
        return ActionResult(Outcome.FOREIGN)
    if now >= notice.deadline:
        return ActionResult(Outcome.MISSED)
    return Departure(node, notice.noticed_at, notice.deadline, repeated)


def failure(error: AwsCallError) -> ActionResult:
    """Return the result of a call that failed: to be retried, or for somebody to look at."""
    outcome = Outcome.RETRYING if isinstance(error, RetryableAwsError) else Outcome.FAILED
    return ActionResult(outcome, {"action": error.action, "code": error.code, "error": str(error)[:300]})


def is_throttled(result: ActionResult) -> bool:
    """Whether AWS refused the call for this node because of too many others."""
    return result.outcome is Outcome.RETRYING and result.detail.get("code") in THROTTLING_CODES


def is_busy(result: ActionResult) -> bool:
    """Whether a function had no time for this node."""
    return result.outcome is Outcome.RETRYING and result.detail.get("reason") == BUSY.detail["reason"]


def never_late() -> bool:
    """Say that there is time: of an action whose caller minds no clock."""
    return False


def failed_lookup(error: AwsCallError, notice: Notice, *, now: datetime) -> ActionResult:
    """Return the result of a notice whose instance could not be looked up.

    Past the deadline nobody will ever know whether it was one of ours: not dropped, but dead-lettered.
    """
    result = failure(error)
    if now >= notice.deadline:
        return ActionResult(Outcome.FAILED, {**result.detail, "missed": True})
    return result


def unrecorded(result: ActionResult, notice: Notice, *, now: datetime) -> ActionResult:
    """Return the result, where it must not be lost, of what was done and could not be recorded.

    It comes back, and is done and recorded again; past the deadline it is for somebody to look at.
    """
    if disposition(result.outcome) is not Disposition.DONE:
        return result
    outcome = Outcome.RETRYING if now < notice.deadline else Outcome.FAILED
    return ActionResult(outcome, {**result.detail, "unrecorded": result.outcome.value})


def by_fleet(departures: Iterable[Departure]) -> dict[str, list[Departure]]:
    """Return the departures of each fleet."""
    fleets: dict[str, list[Departure]] = defaultdict(list)
    for departure in departures:
        fleets[departure.node.fleet].append(departure)
    return dict(fleets)


def parts(departures: Iterable[Departure]) -> list[list[Departure]]:
    """Return the departures in parts to act on one after another, those of the earliest deadlines first.

    A part has whole fleets, so that an action sees all that goes of a fleet at once: at most PART_FLEETS of
    them and PART_NODES nodes, or one fleet that is larger.
    """
    parts: list[list[Departure]] = []
    fleets_of_last = PART_FLEETS
    for fleet in by_fleet(sorted(departures, key=lambda departure: departure.deadline)).values():
        if fleets_of_last < PART_FLEETS and len(parts[-1]) + len(fleet) <= PART_NODES:
            parts[-1] += fleet
            fleets_of_last += 1
        else:
            parts.append(fleet)
            fleets_of_last = 1
    return parts


def parts_of_any_fleets(departures: Iterable[Departure]) -> list[list[Departure]]:
    """Return the departures in parts as `parts` does, for an action to which fleets are all the same."""
    urgent_first = sorted(departures, key=lambda departure: departure.deadline)
    return [list(part) for part in chunks(urgent_first, PART_NODES)]


def settlement(result: ActionResult, *, deadline: datetime | None = None) -> Settlement:
    """Return what becomes of a message with this result; a retry is to come before the deadline."""
    detail = ", ".join(f"{key}={value}" for key, value in result.detail.items())
    reason = f"{result.outcome}: {detail}" if detail else result.outcome
    return Settlement(disposition(result.outcome), reason, deadline, result.look_again)


def entry(
    step: Step, notice: Notice, node: Node | None, result: ActionResult, *, at: datetime
) -> Entry | None:
    """Return the incident's entry for a result, or None where it belongs to no incident of ours."""
    if node is None or result.outcome in OUTSIDE_INCIDENTS:
        return None
    return Entry(
        incident=node.instance_id,
        fleet=node.fleet,
        at=at,
        step=step,
        outcome=result.outcome,
        noticed_at=notice.noticed_at,
        deadline=notice.deadline,
        detail=result.detail,
    )
