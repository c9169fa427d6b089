"""Plays Lambda's event source mapping on a clock that does not wait.

What it holds to (Lambda developer guide, "Using Lambda with Amazon SQS"): batches of ten; what a batch does
not report as failed is deleted; a function that fails or dies leaves its whole batch to come back when the
queue's visibility timeout ends. Visibility, receive counts and the way to the dead letters are the queues'
own.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from local_aws.functions.event_sources import failed_messages
from local_aws.session import LocalAws
from tests.local.faults.functions import DeployedFunction, Invocation

BATCH = 10
# A message of a queue that gives it up after 20 receptions, and of a function that waits 24 s at most.
MOST_ROUNDS = 400


class VirtualClock:
    """The time of functions and queues. It only moves when somebody skips."""

    def __init__(self, aws: LocalAws, now: float) -> None:
        self._aws = aws
        self.now = now

    def skip(self, seconds: float) -> None:
        """Let time pass, for the functions and for the queues."""
        self._aws.control.skip_queue_time(seconds)
        self.now += seconds


@dataclass
class Delivered:
    """What was seen of a run: how often each message was received, and every invocation."""

    receptions: Counter[str] = field(default_factory=Counter)
    invocations: list[Invocation] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)


class QueueDriver:
    """Delivers what is in one function's queue."""

    def __init__(self, aws: LocalAws, clock: VirtualClock, function: DeployedFunction) -> None:
        self._control = aws.control
        self._sqs = aws.client("sqs")
        self.clock = clock
        self.function = function
        self.queue_url = function.variables["QUEUE_URL"]
        self.queue_name = self.queue_url.rsplit("/", 1)[-1]
        self.dead_letters_url = function.variables["DEAD_LETTER_QUEUE_URL"]
        self.dead_letters_name = self.dead_letters_url.rsplit("/", 1)[-1]

    def send(self, *bodies: str) -> None:
        """Put messages into the queue."""
        entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)]
        answer = self._sqs.send_message_batch(QueueUrl=self.queue_url, Entries=entries)
        assert not answer.get("Failed"), answer

    def dead_letters(self) -> list[dict[str, Any]]:
        """Take what is in the dead-letter queue out of it."""
        found = self._control.queue_messages(self.dead_letters_name)
        if found:
            self._control.empty_queue(self.dead_letters_name)
        return found

    def most_receptions(self) -> int:
        """Return how often a message is received before the queue itself dead-letters it."""
        answer = self._sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["RedrivePolicy"])
        return int(json.loads(answer["Attributes"]["RedrivePolicy"])["maxReceiveCount"])

    def purge(self) -> None:
        """Forget what is in the queue."""
        self._control.empty_queue(self.queue_name)

    def run(
        self,
        delivered: Delivered,
        *,
        crash_after: Sequence[int | None] = (),
        singly: int = 0,
        before_each: Callable[[Sequence[dict[str, Any]]], None] = lambda _: None,
    ) -> None:
        """Deliver until the queue is empty; the k-th invocation dies after `crash_after[k]` calls.

        The first `singly` batches hold one message each.
        """
        crashes = itertools.chain(crash_after, itertools.repeat(None))
        for _ in range(MOST_ROUNDS):
            messages = self.receive(1 if len(delivered.batches) < singly else BATCH)
            if messages:
                before_each(messages)
                self.handle(messages, delivered, crash_after=next(crashes))
                continue
            left = self._control.queue_messages(self.queue_name)
            if not left:
                return
            # What comes back in the same second comes together: it takes the real time of one batch.
            waits = sorted(message["visible_in"] for message in left)
            self.clock.skip(max(wait for wait in waits if wait < waits[0] + 1) + 0.001)
        raise AssertionError(f"{self.queue_name} still held messages after {MOST_ROUNDS} rounds")

    def receive(self, batch: int = BATCH) -> list[dict[str, Any]]:
        """Receive a batch, which may be empty."""
        answer = self._sqs.receive_message(
            QueueUrl=self.queue_url,
            MaxNumberOfMessages=batch,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    def handle(
        self, messages: Sequence[dict[str, Any]], delivered: Delivered, *, crash_after: int | None = None
    ) -> None:
        """Invoke the function on a batch and delete what it is done with."""
        delivered.receptions.update(message["Body"] for message in messages)
        delivered.batches.append([message["Body"] for message in messages])
        invocation = self.function.invoke(event_of(messages), at=self.clock.now, crash_after=crash_after)
        self.settle(messages, invocation, delivered)

    def settle(
        self, messages: Sequence[dict[str, Any]], invocation: Invocation, delivered: Delivered
    ) -> None:
        """Delete what an invocation was done with."""
        delivered.invocations.append(invocation)
        if invocation.skipped_seconds:
            self.clock.skip(invocation.skipped_seconds)
        if invocation.ended is not None or invocation.error is not None:
            return
        ids = [message["MessageId"] for message in messages]
        failed = failed_messages(_json(invocation.response), ids)
        done = [message for message in messages if message["MessageId"] not in failed]
        if done:
            entries = [
                {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
                for number, message in enumerate(done)
            ]
            self._sqs.delete_message_batch(QueueUrl=self.queue_url, Entries=entries)


def event_of(messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the event that Lambda makes of a batch."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {},
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:faults",
                "awsRegion": "us-east-1",
            }
            for message in messages
        ]
    }


def _json(response: Any) -> bytes:
    return json.dumps(response).encode()
