"""The fault matrix of the function that records what launches and commands came to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from tests.local.faults.matrix import (
    ABSENT,
    ACCESS_DENIED,
    ANSWER_LOST,
    CONTENTION,
    ERRORS,
    ONCE,
    SERVER_ERROR,
    THROUGHOUT,
    TIMEOUT,
    VALIDATION,
    Fault,
)


class Kind(Enum):
    """What is told."""

    LAUNCH = "a replacement came into service"
    COMMAND = "a drain command ended"


class End(Enum):
    """What becomes of the event."""

    AT_ONCE = "on record in the first reception"
    LATER = "comes back, and is on record then"
    DEAD = "in the dead-letter queue with its reason"


# No deadline ends a record's retries: here it is throttled for six receptions, elsewhere to the bitter end.
FOR_LONG = replace(THROUGHOUT, name="throttled for long", calls=12)
ENDS: Mapping[Fault, End] = {
    ONCE: End.AT_ONCE,
    FOR_LONG: End.LATER,
    SERVER_ERROR: End.LATER,
    TIMEOUT: End.LATER,
    ANSWER_LOST: End.AT_ONCE,
    ACCESS_DENIED: End.DEAD,
    VALIDATION: End.DEAD,
    ABSENT: End.DEAD,
    CONTENTION: End.LATER,
}
CALLS: Mapping[Kind, tuple[str, ...]] = {
    Kind.LAUNCH: (
        "autoscaling:DescribeAutoScalingGroups",
        "dynamodb:Query",
        "dynamodb:TransactWriteItems",
    ),
    Kind.COMMAND: ("dynamodb:Query", "ssm:ListCommandInvocations", "dynamodb:BatchWriteItem"),
}


@dataclass(frozen=True)
class TrackingRow:
    """One case: of three events, the call for one fails."""

    kind: Kind
    action: str
    fault: Fault
    position: int

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.kind.name.lower()}-{self.action}-{self.fault.name}-{self.position}"

    @property
    def error(self) -> str:
        """The code that the call fails with."""
        return ERRORS[self.action.split(":")[0]][self.fault.error] if self.fault.error else ""

    def end_of(self, number: int) -> End:
        """Return what becomes of the number-th event."""
        lasts = self.fault.calls is None or self.fault is FOR_LONG
        hit = number == self.position or (lasts and number > self.position)
        return ENDS[self.fault] if hit else End.AT_ONCE


def rows() -> Iterator[TrackingRow]:
    """Return the matrix; the position goes round."""
    number = 0
    for kind, actions in CALLS.items():
        for action in actions:
            for fault in ENDS:
                yield TrackingRow(kind, action, fault, (number + number // len(ENDS)) % 3)
                number += 1
