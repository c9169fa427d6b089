"""The steps of an incident, how each can end, and what that means for the message that asked for it."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never


class Step(StrEnum):
    """A part of an incident. The first three are asked for by us, the last two are the sweeper's.

    The others are reported to us.
    """

    DEREGISTER = "deregister"
    DRAIN_COMMAND = "drain_command"
    REPLACEMENT_REQUEST = "replacement_request"
    DRAIN = "drain"
    REPLACEMENT = "replacement"
    LAUNCH_FAILED = "launch_failed"
    BOOT = "boot"
    NODE_END = "node_end"
    CLOSE = "close"


class Outcome(StrEnum):
    """How a step ended for one node. What is logged, counted and recorded."""

    # the step is done
    DEREGISTERED = "deregistered"
    NOT_REGISTERED = "not_registered"  # it was in no target group any more
    COMMANDED = "commanded"  # Run Command accepted the drain
    DETACHED = "detached"  # the group launches a replacement now
    ALREADY_DETACHED = "already_detached"
    LEFT_TO_CAPACITY_REBALANCING = "left_to_capacity_rebalancing"  # the group replaces the node by itself
    LEFT_TO_GROUP = "left_to_group"  # the group is launching or ending this node already
    DRAINED = "drained"
    IN_SERVICE = "in_service"
    BOOTED = "booted"  # the replacement told how its boot went, phase by phase
    ENDED = "ended"  # a node that we detached outlived its notice, and was ended
    CLOSED = "closed"  # nothing of the incident is open any more

    # the step is over, and not as wished
    CUT = "cut"  # the deadline came before the last request's end
    UNREPORTED = "unreported"  # the drain command ended without the node's report
    NO_GROUP = "no_group"  # no Auto Scaling group carries the fleet's tag
    NO_TARGET_GROUP = "no_target_group"
    LAUNCH_FAILED = "launch_failed"
    BOOT_FAILED = "boot_failed"  # a node was launched and will never be ready
    MISSED = "missed"  # the deadline passed first
    FAILED = "failed"  # AWS refused, and will again
    CLOSED_INCOMPLETE = "closed_incomplete"  # its time is over, and something never happened

    # the step is not over
    NOT_MANAGED = "not_managed"  # Systems Manager does not know the node (yet)
    RETRYING = "retrying"
    HELD = "held"  # it stays registered: nobody else of its fleet could serve
    GROUP_LAGS = "group_lags"  # the group has a gap and launches nothing

    # not a step of any incident
    FOREIGN = "foreign"  # not a node of a fleet
    NO_INCIDENT = "no_incident"  # a drain nobody's notice asked for, e.g. an operator's
    NOT_A_REPLACEMENT = "not_a_replacement"  # a launch no incident waits for, e.g. a scale-out
    ALREADY_ASSIGNED = "already_assigned"  # a launch that is some incident's replacement already
    NOT_FINAL = "not_final"  # a command that has not ended
    ALREADY_REPORTED = "already_reported"  # the same drain or boot, told a second time or by a second way


class Disposition(StrEnum):
    """What becomes of the message."""

    DONE = "done"
    RETRY = "retry"
    DEAD_LETTER = "dead_letter"


SUCCESSES = frozenset(
    {
        Outcome.DEREGISTERED,
        Outcome.NOT_REGISTERED,
        Outcome.COMMANDED,
        Outcome.DETACHED,
        Outcome.ALREADY_DETACHED,
        Outcome.LEFT_TO_CAPACITY_REBALANCING,
        Outcome.LEFT_TO_GROUP,
        Outcome.DRAINED,
        Outcome.IN_SERVICE,
        Outcome.BOOTED,
        Outcome.ENDED,
        Outcome.CLOSED,
    }
)

# Nothing is wrong with the step, or it is over for good: it happened.
HAPPENED = SUCCESSES | {Outcome.CUT, Outcome.NO_TARGET_GROUP}

OUTSIDE_INCIDENTS = frozenset(
    {
        Outcome.FOREIGN,
        Outcome.NO_INCIDENT,
        Outcome.NOT_A_REPLACEMENT,
        Outcome.ALREADY_ASSIGNED,
        Outcome.NOT_FINAL,
        Outcome.ALREADY_REPORTED,
    }
)


def disposition(outcome: Outcome) -> Disposition:
    """Return what becomes of a message whose node's step ended so."""
    match outcome:
        case Outcome.RETRYING | Outcome.HELD | Outcome.NOT_MANAGED | Outcome.GROUP_LAGS:
            return Disposition.RETRY
        case Outcome.FAILED:
            return Disposition.DEAD_LETTER
        case (
            Outcome.DEREGISTERED
            | Outcome.NOT_REGISTERED
            | Outcome.COMMANDED
            | Outcome.DETACHED
            | Outcome.ALREADY_DETACHED
            | Outcome.LEFT_TO_CAPACITY_REBALANCING
            | Outcome.LEFT_TO_GROUP
            | Outcome.DRAINED
            | Outcome.IN_SERVICE
            | Outcome.BOOTED
            | Outcome.ENDED
            | Outcome.CLOSED
            | Outcome.CUT
            | Outcome.UNREPORTED
            | Outcome.NO_GROUP
            | Outcome.NO_TARGET_GROUP
            | Outcome.LAUNCH_FAILED
            | Outcome.BOOT_FAILED
            | Outcome.MISSED
            | Outcome.CLOSED_INCOMPLETE
            | Outcome.FOREIGN
            | Outcome.NO_INCIDENT
            | Outcome.NOT_A_REPLACEMENT
            | Outcome.ALREADY_ASSIGNED
            | Outcome.NOT_FINAL
            | Outcome.ALREADY_REPORTED
        ):
            return Disposition.DONE
        case _:
            assert_never(outcome)
