"""Gathering: in a storm a function takes from its queue what Lambda would bring it in batches of ten."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from spot_failover.errors import AwsCallError, aws_call
from spot_failover.messages import RECEIVE_COUNT, Message
from spot_failover.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

# The event source mapping's batch size, and the most that one ReceiveMessage gives (SQS's API reference).
FULL_BATCH = 10
# What one invocation looks up, acts on, records and settles within its timeout, with room for throttling.
MOST_MESSAGES = 500
# Every gathered message has been invisible for no longer than this before its work begins.
LONGEST_SECONDS = 1.0


class Gatherer:
    """Receives what waits beside a full batch. A batch that is not full is no storm and is left as it is."""

    def __init__(
        self,
        sqs: SQSClient,
        *,
        queue_url: str,
        most: int = MOST_MESSAGES,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._most = most
        self._seconds = seconds

    def gather(self, delivered: Sequence[Message]) -> list[Message]:
        """Return the messages to handle together, each once: those delivered, and those received here.

        Raises nothing: what cannot be received now is delivered later.
        """
        messages = {message.message_id: message for message in delivered}
        if len(delivered) >= FULL_BATCH:
            stop_at = self._seconds() + LONGEST_SECONDS
            while len(messages) + FULL_BATCH <= self._most and self._seconds() < stop_at:
                received = self._receive()
                if not received:
                    break
                for message in received:
                    # A standard queue can deliver twice; the copy comes back later and finds its work done.
                    messages.setdefault(message.message_id, message)
        return list(messages.values())

    def _receive(self) -> list[Message]:
        try:
            with aws_call("sqs:ReceiveMessage"):
                # Short polls: an empty answer may be wrong, but a message it leaves out is delivered anyway.
                answer = self._sqs.receive_message(
                    QueueUrl=self._queue_url,
                    MaxNumberOfMessages=FULL_BATCH,
                    WaitTimeSeconds=0,
                    AttributeNames=[RECEIVE_COUNT],
                )
        except AwsCallError as error:
            logger.warning("a storm is handled in small batches", extra={"error": str(error)})
            return []
        return [
            Message(
                message_id=one["MessageId"],
                receipt_handle=one["ReceiptHandle"],
                body=one["Body"],
                receive_count=int(one["Attributes"][RECEIVE_COUNT]),
                gathered=True,
            )
            for one in answer.get("Messages", [])
        ]
