"""What becomes of each message: consumed, seen again within seconds, or dead-lettered with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from spot_failover.batches import chunks
from spot_failover.errors import AwsCallError, aws_call
from spot_failover.outcomes import Disposition
from spot_failover.telemetry import logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from mypy_boto3_sqs import SQSClient

RECEIVE_COUNT: Final = "ApproximateReceiveCount"
BACKOFF_SECONDS = (1, 2, 4, 8)  # by the number of times a message was received; the last one repeats
LOOKS_LEFT = 6  # how often, at least, a message is looked at again before its deadline
ENTRIES_LIMIT = 10  # messages of one batch call of SQS, by its API reference
# Of one SendMessageBatch, by SQS's quotas 1 MiB; a quarter of that was the limit until 2025.
BYTES_LIMIT = 256 * 1024
REASON_LIMIT = 500  # characters


@dataclass(frozen=True)
class Message:
    """A message in an invocation's hands. One that was `gathered` is not Lambda's to delete, but ours."""

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int
    gathered: bool = False


@dataclass(frozen=True)
class Settlement:
    """What is to become of one message, and why.

    A retry comes in time for `deadline`, and within `look_again` seconds, where these are known.
    """

    disposition: Disposition
    reason: str = ""
    deadline: datetime | None = None
    look_again: int | None = None


def delivered(event: Mapping[str, Any]) -> list[Message]:
    """Return the messages of the event that Lambda invokes a function with."""
    return [
        Message(
            message_id=record["messageId"],
            receipt_handle=record["receiptHandle"],
            body=record["body"],
            receive_count=int(record["attributes"].get(RECEIVE_COUNT, 1)),
        )
        for record in event["Records"]
    ]


def backoff_seconds(receive_count: int, *, left: float | None = None, look_again: int | None = None) -> int:
    """Return for how long a message that was received so often stays invisible, in whole seconds.

    The less time is `left` until its deadline, the sooner it is looked at again: no wait takes more than a
    sixth of it. Nothing waits for less than a second, so the last look is within the deadline's last one.
    """
    wait = BACKOFF_SECONDS[max(0, min(receive_count, len(BACKOFF_SECONDS)) - 1)]
    if look_again is not None:
        wait = look_again
    if left is not None:
        wait = min(wait, int(left / LOOKS_LEFT))
    return max(1, wait)


class MessageSettler:
    """Carries settlements out, ten to a call: none can fail another."""

    def __init__(self, sqs: SQSClient, *, queue_url: str, dead_letter_queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._dead_letter_queue_url = dead_letter_queue_url

    def settle(
        self, messages: Sequence[Message], settlements: Mapping[str, Settlement], *, now: datetime
    ) -> PartialItemFailureResponse:
        """Carry out each message's settlement, by message id, and return Lambda's partial batch response.

        A batch of nothing but retries is not an error of the function: its alarm would ring for no reason.
        """
        fates: dict[Disposition, list[Message]] = {disposition: [] for disposition in Disposition}
        for message in messages:
            fates[settlements[message.message_id].disposition].append(message)
        unburied = self._bury(fates[Disposition.DEAD_LETTER], settlements)
        retried = [*fates[Disposition.RETRY], *unburied]
        self._see_again(retried, settlements, now)
        kept = {message.message_id for message in retried}
        self._delete([one for one in messages if one.gathered and one.message_id not in kept])
        return {
            "batchItemFailures": [{"itemIdentifier": one.message_id} for one in retried if not one.gathered]
        }

    def _bury(self, messages: Sequence[Message], settlements: Mapping[str, Settlement]) -> list[Message]:
        """Send messages to the dead-letter queue; return those that could not be: they must come back."""

        def send(some: Sequence[Message]) -> Any:
            return self._sqs.send_message_batch(
                QueueUrl=self._dead_letter_queue_url,
                Entries=[
                    {
                        "Id": str(number),
                        "MessageBody": one.body,
                        "MessageAttributes": {
                            "reason": {
                                "DataType": "String",
                                "StringValue": _shown(settlements[one.message_id].reason),
                            }
                        },
                    }
                    for number, one in enumerate(some)
                ],
            )

        return _call("sqs:SendMessage", send, _parcels(messages), "a message could not be dead-lettered")

    def _see_again(
        self, messages: Sequence[Message], settlements: Mapping[str, Settlement], now: datetime
    ) -> None:
        def wait(message: Message) -> int:
            settlement = settlements[message.message_id]
            left = (settlement.deadline - now).total_seconds() if settlement.deadline else None
            return backoff_seconds(message.receive_count, left=left, look_again=settlement.look_again)

        def change(some: Sequence[Message]) -> Any:
            return self._sqs.change_message_visibility_batch(
                QueueUrl=self._queue_url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": one.receipt_handle, "VisibilityTimeout": wait(one)}
                    for number, one in enumerate(some)
                ],
            )

        # What this fails for comes back all the same, when the queue's own visibility timeout ends.
        tens = chunks(messages, ENTRIES_LIMIT)
        _call("sqs:ChangeMessageVisibility", change, tens, "a retry comes late")

    def _delete(self, messages: Sequence[Message]) -> None:
        def delete(some: Sequence[Message]) -> Any:
            return self._sqs.delete_message_batch(
                QueueUrl=self._queue_url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": one.receipt_handle}
                    for number, one in enumerate(some)
                ],
            )

        # What this fails for comes again, and finds its work done.
        _call("sqs:DeleteMessage", delete, chunks(messages, ENTRIES_LIMIT), "a message comes again")


def _call(
    action: str,
    call: Callable[[Sequence[Message]], Any],
    batches: Iterable[Sequence[Message]],
    consequence: str,
) -> list[Message]:
    """Make a batch call for each batch; return, and log, the messages for which it failed."""
    failed: list[Message] = []
    for batch in batches:
        try:
            with aws_call(action):
                answer = call(batch)
            refused = {int(one["Id"]): str(one.get("Code")) for one in answer.get("Failed", [])}
        except AwsCallError as error:
            refused = dict.fromkeys(range(len(batch)), str(error))
        for number, reason in refused.items():
            extra = {"message_id": batch[number].message_id, "error": reason}
            logger.error(consequence, extra=extra)
            failed.append(batch[number])
    return failed


def _parcels(messages: Iterable[Message]) -> Iterator[list[Message]]:
    """Yield the messages in order, as many at a time as one SendMessageBatch takes."""
    parcel: list[Message] = []
    size = 0
    for message in messages:
        own = len(message.body.encode()) + 2 * REASON_LIMIT  # its attribute, with room
        if parcel and (len(parcel) == ENTRIES_LIMIT or size + own > BYTES_LIMIT):
            yield parcel
            parcel, size = [], 0
        parcel.append(message)
        size += own
    if parcel:
        yield parcel


def _shown(reason: str) -> str:
    # Message attributes cannot carry every character that a message can.
    return ascii(reason)[1:-1][:REASON_LIMIT] or "unknown"
