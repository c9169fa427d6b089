"""A notice: the signal that a node will go, in one typed shape whatever its source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from spot_failover import envelopes
from spot_failover.errors import MalformedMessageError

SOURCE = "aws.ec2"
# The clocks of EC2 and Lambda differ by less. A notice from further ahead is nobody's: its incident would
# stay open, and its command wait, for as long.
CLOCK_SLACK = timedelta(seconds=60)
INTERRUPTION = "EC2 Spot Instance Interruption Warning"


class InstanceAction(StrEnum):
    """What EC2 will do. A hibernation starts at once: no time to drain, but the rest is worth doing."""

    TERMINATE = "terminate"
    STOP = "stop"
    HIBERNATE = "hibernate"


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One instance will go. `noticed_at` is the event's own time, in whole seconds on AWS."""

    instance_id: str
    action: InstanceAction
    noticed_at: datetime
    deadline: datetime


def parse_notice(body: str, *, notice: timedelta, now: datetime) -> Notice:
    """Read an interruption notice from a message's body; the node lives for `notice` after it.

    Raises MalformedMessageError, saying what is wrong, for everything else, whatever it is.
    """
    event = envelopes.parse_event(body)
    if (event.source, event.detail_type) != (SOURCE, INTERRUPTION):
        raise MalformedMessageError(f"not an {INTERRUPTION!r} from {SOURCE}")
    if event.time > now + CLOCK_SLACK:
        raise MalformedMessageError("time is ahead of ours")
    try:
        action = InstanceAction(envelopes.text(event.detail, "instance-action"))
    except ValueError as error:
        raise MalformedMessageError(f"instance-action is none of {', '.join(InstanceAction)}") from error
    return Notice(
        instance_id=envelopes.instance_id(event.detail, "instance-id"),
        action=action,
        noticed_at=event.time,
        deadline=event.time + notice,
    )
