"""The fault matrix, as data: which call of which function fails how, and what must come of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum


class Part(Enum):
    """What a call is for. What its failure means follows from that."""

    LOOKUP = "whether an instance is a node of a fleet"
    DIRECTORY = "what is known of the fleet"
    ACTION = "the deed itself"
    KNOWLEDGE = "what else the deed concerns; it is done meanwhile where it is known"
    STANDING = "why the deed was refused"
    RECORD = "the incident's record"
    OWNERSHIP = "the record that a node was detached by us, without which nobody would end it"
    RETURN = "when the message is seen again"
    BURIAL = "the message's way to the dead letters"


class End(Enum):
    """What becomes of a notice."""

    AT_ONCE = "done in the first reception"
    LATER = "comes back, and is done then"
    MISSED = "comes back until its deadline, recorded as missed"
    DEAD = "in the dead-letter queue with its reason, recorded as failed"
    MISSED_IN_PART = "done where it could be known, comes back for the rest, recorded as missed"
    DEAD_IN_PART = "done where it could be known, in the dead-letter queue with its reason for the rest"
    DEAD_UNKNOWN = "in the dead-letter queue with its reason; nobody knows whose instance it is"
    UNRECORDED = "done in the first reception, and not on record"
    DEAD_UNRECORDED = "done, and in the dead-letter queue because that could not be put on record"


@dataclass(frozen=True)
class Fault:
    """How a call fails. `calls` is how many in a row, None for all from the first on."""

    name: str
    calls: int | None
    error: str = ""
    """Which of a service's errors; see ERRORS."""
    lost: bool = False
    takes_effect: bool = False


THROTTLED, SERVER, DENIED, INVALID, NOT_FOUND, BUSY = (
    "throttled",
    "server",
    "denied",
    "invalid",
    "not found",
    "busy",
)
# Codes of the services' API references and of their "Common errors" pages. Where a service knows no
# contention it is unavailable for the moment, which asks the same of its caller.
ERRORS: Mapping[str, Mapping[str, str]] = {
    "ec2": {
        THROTTLED: "RequestLimitExceeded",
        SERVER: "InternalError",
        DENIED: "UnauthorizedOperation",
        INVALID: "InvalidParameterValue",
        NOT_FOUND: "InvalidInstanceID.NotFound",
        BUSY: "Unavailable",
    },
    "autoscaling": {
        THROTTLED: "Throttling",
        SERVER: "InternalFailure",
        DENIED: "AccessDenied",
        INVALID: "ValidationError",
        NOT_FOUND: "ValidationError",
        BUSY: "ResourceContention",
    },
    "elasticloadbalancing": {
        THROTTLED: "Throttling",
        SERVER: "InternalFailure",
        DENIED: "AccessDenied",
        INVALID: "ValidationError",
        NOT_FOUND: "TargetGroupNotFound",
        BUSY: "ServiceUnavailable",
    },
    "ssm": {
        THROTTLED: "ThrottlingException",
        SERVER: "InternalServerError",
        DENIED: "AccessDeniedException",
        INVALID: "InvalidParameters",
        NOT_FOUND: "InvalidInstanceId",
        BUSY: "ServiceUnavailable",
    },
    "tag": {
        THROTTLED: "ThrottledException",
        SERVER: "InternalServiceException",
        DENIED: "AccessDeniedException",
        INVALID: "InvalidParameterException",
        NOT_FOUND: "InvalidParameterException",
        BUSY: "ServiceUnavailable",
    },
    "dynamodb": {
        THROTTLED: "ThrottlingException",
        SERVER: "InternalServerError",
        DENIED: "AccessDeniedException",
        INVALID: "ValidationException",
        NOT_FOUND: "ResourceNotFoundException",
        BUSY: "ProvisionedThroughputExceededException",
    },
    "sqs": {
        THROTTLED: "RequestThrottled",
        SERVER: "InternalFailure",
        DENIED: "AccessDenied",
        INVALID: "InvalidParameterValue",
        NOT_FOUND: "AWS.SimpleQueueService.NonExistentQueue",
        BUSY: "ServiceUnavailable",
    },
}

# The client makes two attempts: it gets past one failure by itself, if it takes the error for a passing one.
ONCE = Fault("throttled once", 1, THROTTLED)
THROUGHOUT = Fault("throttled throughout", None, THROTTLED)
SERVER_ERROR = Fault("5xx", 2, SERVER)
TIMEOUT = Fault("timeout", 2, lost=True)
ANSWER_LOST = Fault("answer lost", 1, lost=True, takes_effect=True)
ACCESS_DENIED = Fault("access denied", None, DENIED)
VALIDATION = Fault("validation error", None, INVALID)
ABSENT = Fault("not found", 1, NOT_FOUND)
CONTENTION = Fault("resource contention", 2, BUSY)
FAULTS = (
    ONCE,
    THROUGHOUT,
    SERVER_ERROR,
    TIMEOUT,
    ANSWER_LOST,
    ACCESS_DENIED,
    VALIDATION,
    ABSENT,
    CONTENTION,
)

ENDS: Mapping[Fault, Mapping[Part, End]] = {
    ONCE: {**dict.fromkeys(Part, End.AT_ONCE), Part.RETURN: End.LATER, Part.BURIAL: End.DEAD},
    THROUGHOUT: {
        Part.LOOKUP: End.DEAD_UNKNOWN,
        Part.DIRECTORY: End.MISSED,
        Part.ACTION: End.MISSED,
        Part.KNOWLEDGE: End.MISSED_IN_PART,
        Part.STANDING: End.LATER,
        Part.RECORD: End.UNRECORDED,
        Part.OWNERSHIP: End.DEAD_UNRECORDED,
        Part.RETURN: End.LATER,
        Part.BURIAL: End.MISSED,
    },
    SERVER_ERROR: {**dict.fromkeys(Part, End.LATER), Part.RECORD: End.UNRECORDED, Part.BURIAL: End.DEAD},
    TIMEOUT: {**dict.fromkeys(Part, End.LATER), Part.RECORD: End.UNRECORDED, Part.BURIAL: End.DEAD},
    ANSWER_LOST: {**dict.fromkeys(Part, End.AT_ONCE), Part.RETURN: End.LATER, Part.BURIAL: End.DEAD},
    ACCESS_DENIED: {
        Part.LOOKUP: End.DEAD_UNKNOWN,
        Part.DIRECTORY: End.DEAD,
        Part.ACTION: End.DEAD,
        Part.KNOWLEDGE: End.DEAD_IN_PART,
        Part.STANDING: End.DEAD,
        Part.RECORD: End.UNRECORDED,
        Part.OWNERSHIP: End.DEAD_UNRECORDED,
        Part.RETURN: End.LATER,
        Part.BURIAL: End.MISSED,
    },
    VALIDATION: {
        Part.LOOKUP: End.DEAD_UNKNOWN,
        Part.DIRECTORY: End.DEAD,
        Part.ACTION: End.DEAD,
        Part.KNOWLEDGE: End.DEAD_IN_PART,
        Part.STANDING: End.DEAD,
        Part.RECORD: End.UNRECORDED,
        Part.OWNERSHIP: End.DEAD_UNRECORDED,
        Part.RETURN: End.LATER,
        Part.BURIAL: End.MISSED,
    },
    ABSENT: {
        Part.LOOKUP: End.DEAD_UNKNOWN,
        Part.DIRECTORY: End.DEAD,
        Part.ACTION: End.LATER,
        Part.KNOWLEDGE: End.DEAD_IN_PART,
        Part.STANDING: End.DEAD,
        Part.RECORD: End.UNRECORDED,
        Part.OWNERSHIP: End.LATER,
        Part.RETURN: End.LATER,
        Part.BURIAL: End.DEAD,
    },
    CONTENTION: {**dict.fromkeys(Part, End.LATER), Part.RECORD: End.UNRECORDED, Part.BURIAL: End.DEAD},
}


@dataclass(frozen=True)
class Refusal:
    """What has to fail before a call is made at all."""

    action: str
    error: str
    calls: int
    again: bool = False
    """Also when the message comes back."""


@dataclass(frozen=True)
class Call:
    """A call that a function makes for a notice."""

    function: str
    action: str
    part: Part
    each_fleet: bool = False
    """One for each fleet of a batch; others are one for a batch."""
    asked_again: bool = False
    """Also when all is done: throttled throughout, it fails for those, too, whose first call passed."""
    follows: Refusal | None = None
    unharmed: End = End.AT_ONCE
    """What becomes of a notice whose call does not fail."""
    ends: tuple[tuple[Fault, End], ...] = ()
    """Where the end is another than the part's."""

    def end(self, fault: Fault) -> End:
        """Return what becomes of a notice whose call fails so."""
        return dict(self.ends).get(fault, ENDS[fault][self.part])

    def error(self, fault: Fault) -> str:
        """Return the code that the call fails with."""
        return ERRORS[self.action.split(":")[0]][fault.error] if fault.error else ""


def _common(function: str, *, record: Part = Part.RECORD) -> list[Call]:
    return [
        Call(function, "ec2:DescribeInstances", Part.LOOKUP),
        Call(function, "dynamodb:BatchWriteItem", record),
    ]


CALLS = (
    *_common("deregister_target"),
    Call("deregister_target", "autoscaling:DescribeAutoScalingGroups", Part.DIRECTORY),
    Call("deregister_target", "tag:GetResources", Part.KNOWLEDGE),
    Call(
        "deregister_target",
        "elasticloadbalancing:DescribeTargetHealth",
        Part.KNOWLEDGE,
        each_fleet=True,
        asked_again=True,
        # The node leaves without knowing, once its deadline is near.
        ends=((THROUGHOUT, End.LATER), (ABSENT, End.LATER)),
    ),
    Call("deregister_target", "elasticloadbalancing:DeregisterTargets", Part.ACTION, each_fleet=True),
    *_common("drain_node"),
    Call("drain_node", "ssm:SendCommand", Part.ACTION),
    *_common("request_replacement", record=Part.OWNERSHIP),
    Call("request_replacement", "autoscaling:DescribeAutoScalingGroups", Part.DIRECTORY),
    Call(
        "request_replacement",
        "autoscaling:DetachInstances",
        Part.ACTION,
        each_fleet=True,
        # Refused once for the instance's state, its standing is looked up, and there it is in service.
        ends=((ABSENT, End.AT_ONCE),),
    ),
    Call(
        "request_replacement",
        "autoscaling:DescribeAutoScalingInstances",
        Part.STANDING,
        follows=Refusal("autoscaling:DetachInstances", "ValidationError", 1),
    ),
)

# A message that has to come back does so whatever becomes of the wish for when: the queue's own timeout ends.
# One that is to be buried is neither lost nor done: it comes back until it is, or until its deadline.
SETTLING = tuple(
    call
    for function, action in (
        ("deregister_target", "elasticloadbalancing:DeregisterTargets"),
        ("drain_node", "ssm:SendCommand"),
        ("request_replacement", "autoscaling:DetachInstances"),
    )
    for call in (
        Call(
            function,
            "sqs:ChangeMessageVisibility",
            Part.RETURN,
            follows=Refusal(action, "InternalFailure", 2),
            unharmed=End.LATER,
        ),
        Call(
            function,
            "sqs:SendMessage",
            Part.BURIAL,
            follows=Refusal(action, "AccessDenied", 1, again=True),
            unharmed=End.DEAD,
        ),
    )
)

POSITIONS = ("first", "middle", "last")


@dataclass(frozen=True)
class Row:
    """One case of the matrix: of three nodes of three fleets, the call for one of them fails."""

    call: Call
    fault: Fault
    position: int

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.call.function}-{self.call.action}-{self.fault.name}-{POSITIONS[self.position]}"

    def end_of(self, number: int) -> End:
        """Return what becomes of the number-th node's notice."""
        throughout = self.fault.calls is None and number > self.position
        again = self.call.asked_again and self.fault is THROUGHOUT
        hit = number == self.position or throughout or again
        return self.call.end(self.fault) if hit else self.call.unharmed


def rows() -> Iterator[Row]:
    """Return the whole matrix."""
    for call in CALLS:
        for fault in FAULTS:
            for position in range(len(POSITIONS)):
                yield Row(call, fault, position)
    for call in SETTLING:
        for fault in FAULTS:
            yield Row(call, fault, 1)
