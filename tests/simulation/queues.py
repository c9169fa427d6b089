"""SQS standard queues in memory: visibility, receive counts, copies, no order, dead letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from botocore.exceptions import ClientError

from tests.simulation.network import client_error
from tests.simulation.timeline import Timeline

MOST_RECEIVED = 10
MOST_IN_A_BATCH = 10


@dataclass
class Message:
    """A message. `handle` is that of its last reception."""

    message_id: str
    body: str
    sent_at: float
    visible_at: float
    attributes: Mapping[str, Any] = field(default_factory=dict)
    receives: int = 0
    first_received_at: float | None = None
    handle: str = ""
    redriven: bool = False  # the queue itself moved it to the dead letters


@dataclass
class Queue:
    """A queue. `arrived` is told when a message will be visible."""

    url: str
    timeline: Timeline
    visibility: float = 30.0
    redrive: tuple[Queue, int] | None = None  # to which queue, after how many receptions
    arrived: Callable[[float], None] = lambda _: None
    messages: dict[str, Message] = field(default_factory=dict)

    def send(self, message: Message) -> None:
        """Take a message."""
        self.messages[message.message_id] = message
        self.arrived(message.visible_at)


@dataclass
class Sqs:
    """All queues by URL. `copies`: of so many deletions, counted from 0, a copy survives (once)."""

    timeline: Timeline
    random: Random
    copies: frozenset[int] = frozenset()
    queues: dict[str, Queue] = field(default_factory=dict)
    _deletions: count[int] = field(default_factory=count)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def send_message(
        self,
        QueueUrl: str,
        MessageBody: str,
        MessageAttributes: Mapping[str, Any] | None = None,
        DelaySeconds: int = 0,
    ) -> Any:
        """Send one message."""
        queue = self._queue("SendMessage", QueueUrl)
        now = self.timeline.now
        message_id = f"message-{next(self._numbers)}"
        message = Message(message_id, MessageBody, now, now + DelaySeconds, MessageAttributes or {})
        queue.send(message)
        return {"MessageId": message_id}

    def send_message_batch(self, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> Any:
        """Send up to ten."""
        _check_batch("SendMessageBatch", Entries)
        sent = []
        for one in Entries:
            more = {name: one[name] for name in ("MessageAttributes", "DelaySeconds") if name in one}
            answer = self.send_message(QueueUrl=QueueUrl, MessageBody=one["MessageBody"], **more)
            sent.append({"Id": one["Id"], **answer})
        return {"Successful": sent, "Failed": []}

    def receive_message(
        self,
        QueueUrl: str,
        MaxNumberOfMessages: int = 1,
        VisibilityTimeout: float | None = None,
        WaitTimeSeconds: int = 0,
        **_: Any,
    ) -> Any:
        """Receive some of what is visible, in no order; a long poll here answers at once."""
        queue = self._queue("ReceiveMessage", QueueUrl)
        found = self.receive(queue, MaxNumberOfMessages, VisibilityTimeout)
        if not found:
            return {}
        return {"Messages": [_received(one) for one in found]}

    def receive(self, queue: Queue, most: int, visibility: float | None = None) -> list[Message]:
        """Receive up to `most` messages, as the event source mapping does too."""
        now = self.timeline.now
        visible = [one for one in queue.messages.values() if one.visible_at <= now]
        self.random.shuffle(visible)
        found: list[Message] = []
        for message in visible:
            if queue.redrive and message.receives >= queue.redrive[1]:
                del queue.messages[message.message_id]
                message.visible_at, message.receives, message.redriven = now, 0, True
                queue.redrive[0].send(message)
            elif len(found) < min(most, MOST_RECEIVED):
                found.append(message)
        for message in found:
            message.receives += 1
            message.first_received_at = message.first_received_at or now
            message.handle = f"{message.message_id}/{next(self._numbers)}"
            message.visible_at = now + (queue.visibility if visibility is None else visibility)
            queue.arrived(message.visible_at)
        return found

    def delete_message(self, QueueUrl: str, ReceiptHandle: str) -> Any:
        """Delete by the last reception's handle; by an older one nothing happens, and nobody is told."""
        queue = self._queue("DeleteMessage", QueueUrl)
        message = queue.messages.get(ReceiptHandle.partition("/")[0])
        if message is None or message.handle != ReceiptHandle:
            return {}
        if next(self._deletions) in self.copies:
            queue.arrived(message.visible_at)  # a server was away and still has its copy
        else:
            del queue.messages[message.message_id]
        return {}

    def delete_message_batch(self, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> Any:
        """Delete up to ten."""
        _check_batch("DeleteMessageBatch", Entries)
        for one in Entries:
            self.delete_message(QueueUrl=QueueUrl, ReceiptHandle=one["ReceiptHandle"])
        return {"Successful": [{"Id": one["Id"]} for one in Entries], "Failed": []}

    def change_message_visibility(self, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> Any:
        """Only what is in flight can be postponed."""
        queue = self._queue("ChangeMessageVisibility", QueueUrl)
        message = queue.messages.get(ReceiptHandle.partition("/")[0])
        now = self.timeline.now
        if message is None:
            raise client_error(
                "ChangeMessageVisibility", "InvalidParameterValue", "Reason: Message does not exist"
            )
        if message.visible_at <= now or message.handle != ReceiptHandle:
            raise client_error("ChangeMessageVisibility", "MessageNotInflight", "not in flight")
        message.visible_at = now + VisibilityTimeout
        queue.arrived(message.visible_at)
        return {}

    def change_message_visibility_batch(self, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> Any:
        """Each for itself: what is not in flight fails alone."""
        _check_batch("ChangeMessageVisibilityBatch", Entries)
        done, failed = [], []
        for one in Entries:
            try:
                self.change_message_visibility(
                    QueueUrl, one["ReceiptHandle"], one.get("VisibilityTimeout", 0)
                )
                done.append({"Id": one["Id"]})
            except ClientError as error:
                code = error.response["Error"]["Code"]
                failed.append({"Id": one["Id"], "SenderFault": True, "Code": code})
        return {"Successful": done, "Failed": failed}

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: Sequence[str]) -> Any:
        """How many messages wait."""
        queue = self._queue("GetQueueAttributes", QueueUrl)
        visible = sum(one.visible_at <= self.timeline.now for one in queue.messages.values())
        return {"Attributes": {"ApproximateNumberOfMessages": str(visible)}}

    def _queue(self, operation: str, url: str) -> Queue:
        if url not in self.queues:
            raise client_error(operation, "AWS.SimpleQueueService.NonExistentQueue", "does not exist")
        return self.queues[url]


def _check_batch(operation: str, entries: Sequence[Mapping[str, Any]]) -> None:
    if len(entries) > MOST_IN_A_BATCH:
        raise client_error(operation, "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", "at most 10")
    if not entries:
        raise client_error(operation, "AWS.SimpleQueueService.EmptyBatchRequest", "no entries")
    if len({one["Id"] for one in entries}) < len(entries):
        raise client_error(operation, "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "an Id twice")


def _received(message: Message) -> dict[str, Any]:
    return {
        "MessageId": message.message_id,
        "ReceiptHandle": message.handle,
        "Body": message.body,
        "Attributes": attributes(message),
    }


def attributes(message: Message) -> dict[str, str]:
    """Return a received message's system attributes."""
    return {
        "ApproximateReceiveCount": str(message.receives),
        "SentTimestamp": str(int(message.sent_at * 1000)),
        "SenderId": "events",
        "ApproximateFirstReceiveTimestamp": str(int((message.first_received_at or 0) * 1000)),
    }
