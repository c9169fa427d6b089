"""SQS event source mappings: queues polled, functions invoked, messages deleted or left to come back.

After https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html and its neighbours.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from moto.awslambda.models import EventSourceMapping, LambdaBackend, lambda_backends
from moto.sqs.models import Message, Queue, sqs_backends

from local_aws.functions.pool import Functions, ThrottledError
from local_aws.iam.authorization import Authorizer
from local_aws.iam.sessions import CannotAssumeRoleError
from local_aws.world import World

log = logging.getLogger(__name__)

# Lambda starts with five concurrent batches for each standard queue.
CONCURRENT_BATCHES = 5
# How long a poll waits for a message; also how late one is seen whose visibility timeout ended.
POLL_SECONDS = 0.02


class Poller:
    """Polls for one mapping, in a thread of its own, from its creation until it is deleted."""

    def __init__(
        self, world: World, functions: Functions, authorizer: Authorizer, mapping: EventSourceMapping
    ) -> None:
        self._world = world
        self._authorizer = authorizer
        self._functions = functions
        self._mapping = mapping
        self._stop = threading.Event()
        scaling = mapping.scaling_config or {}
        self._slots = threading.Semaphore(int(scaling.get("MaximumConcurrency", CONCURRENT_BATCHES)))
        threading.Thread(target=self._run, name=f"poller-{mapping.uuid[:8]}", daemon=True).start()

    def stop(self) -> None:
        """Stop polling. Batches that are being handled end by themselves."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._poll()
            except Exception as err:
                # A real poller goes on, whatever it meets; so does this one, and says what it met.
                log.exception("event source mapping %s", self._mapping.uuid)
                self._world.timeline.record("poller_problem", mapping=self._mapping.uuid, reason=str(err))
                self._stop.wait(1.0)

    def _poll(self) -> None:
        queue = self._queue()
        if queue is None or not self._mapping.enabled:
            self._stop.wait(POLL_SECONDS)
            return
        queue.wait_for_messages(POLL_SECONDS)
        if not queue.messages:
            return
        self._slots.acquire()
        messages: list[Message] = []
        try:
            if not self._stop.is_set():
                messages = self._receive(queue)
        finally:
            if not messages:
                self._slots.release()
        if not messages:
            return
        threading.Thread(target=self._handle, args=(queue, messages), name="batch", daemon=True).start()

    def _queue(self) -> Queue | None:
        queues = sqs_backends[self._world.account_id][self._world.region].queues.values()
        return next((q for q in list(queues) if q.queue_arn == self._mapping.event_source_arn), None)

    def _demand(self, action: str, queue: Queue) -> None:
        """Lambda polls with the function's role: raise unless that role may."""
        role = str(self._functions.named(self._mapping.function_arn).role)
        if problem := self._authorizer.denied_to_service(
            role_arn=role, by="lambda.amazonaws.com", action=action, arn=str(queue.queue_arn)
        ):
            raise PermissionError(problem)

    def _receive(self, queue: Queue) -> list[Message]:
        with self._world.lock:
            self._demand("sqs:GetQueueAttributes", queue)
            self._demand("sqs:ReceiveMessage", queue)
            backend = sqs_backends[self._world.account_id][self._world.region]
            messages: list[Message] = backend.receive_message(
                queue.name, int(self._mapping.batch_size), 0, queue.visibility_timeout, ["All"]
            )
            return messages

    def _handle(self, queue: Queue, messages: Sequence[Message]) -> None:
        try:
            done = self._invoke(queue, messages)
            with self._world.lock:
                if done:
                    self._demand("sqs:DeleteMessage", queue)
                for message in done:
                    queue.delete_message(message.receipt_handle)
        except Exception as err:
            log.exception("a batch of %s", queue.name)
            self._world.timeline.record("poller_problem", mapping=self._mapping.uuid, reason=str(err))
        finally:
            self._slots.release()

    def _invoke(self, queue: Queue, messages: Sequence[Message]) -> list[Message]:
        """Run the function on a batch; return the messages it is done with."""
        function = self._functions.named(self._mapping.function_arn)
        records = [_record(queue, message) for message in messages]
        try:
            result = self._functions.invoke(function, json.dumps({"Records": records}).encode())
        except (ThrottledError, CannotAssumeRoleError) as err:
            self._world.timeline.record("poller_problem", mapping=self._mapping.uuid, reason=str(err))
            return []
        if result.error:
            return []
        if "ReportBatchItemFailures" not in (self._mapping.function_response_types or []):
            return list(messages)
        failed = failed_messages(result.payload, [message.id for message in messages])
        return [message for message in messages if message.id not in failed]


def failed_messages(payload: bytes, batch: Sequence[str]) -> set[str]:
    """Return the ids of the batch that come back, from a function's partial batch response.

    A response that is no such thing, or names a message that is not in the batch, fails the whole batch; an
    empty one fails nothing.
    """
    everything = set(batch)
    try:
        response = json.loads(payload or b"null")
    except ValueError:
        return everything
    if response is None or response == {}:
        return set()
    if not isinstance(response, dict):
        return everything
    failures = response.get("batchItemFailures") or []
    try:
        failed = {failure["itemIdentifier"] for failure in failures}
    except (TypeError, KeyError):
        return everything
    return failed if failed <= everything else everything


def _record(queue: Queue, message: Message) -> dict[str, Any]:
    return {
        "messageId": message.id,
        "receiptHandle": message.receipt_handle,
        "body": message.body,
        "attributes": {
            "ApproximateReceiveCount": str(message.approximate_receive_count),
            "SentTimestamp": str(message.sent_timestamp),
            "SenderId": message.sender_id,
            "ApproximateFirstReceiveTimestamp": str(message.approximate_first_receive_timestamp),
            **message.system_attributes,
        },
        "messageAttributes": {name: _attribute(value) for name, value in message.message_attributes.items()},
        "md5OfBody": message.body_md5,
        "eventSource": "aws:sqs",
        "eventSourceARN": queue.queue_arn,
        "awsRegion": queue.region,
    }


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "stringValue": value.get("StringValue"),
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": value.get("DataType"),
    }


def install(world: World, functions: Functions, authorizer: Authorizer) -> None:
    """Poll for every mapping that is created from now on."""
    pollers: dict[str, Poller] = {}
    create = LambdaBackend.create_event_source_mapping
    delete = LambdaBackend.delete_event_source_mapping

    def create_and_poll(backend: Any, spec: dict[str, Any]) -> EventSourceMapping:
        if ":sqs:" not in spec.get("EventSourceArn", ""):
            raise NotImplementedError("CreateEventSourceMapping of anything but an SQS queue is not emulated")
        if spec.get("FilterCriteria") or spec.get("MaximumBatchingWindowInSeconds"):
            raise NotImplementedError("event source mappings with a filter or a window are not emulated")
        mapping = create(backend, spec)
        for queue in sqs_backends[world.account_id][world.region].queues.values():
            queue.lambda_event_source_mappings.clear()  # or moto would invoke the function by itself, too
        pollers[mapping.uuid] = Poller(world, functions, authorizer, mapping)
        return mapping

    def delete_and_stop(backend: Any, uuid: str) -> EventSourceMapping | None:
        if poller := pollers.pop(uuid, None):
            poller.stop()
        return delete(backend, uuid)

    backend_class = type(lambda_backends[world.account_id][world.region])
    backend_class.create_event_source_mapping = create_and_poll
    backend_class.delete_event_source_mapping = delete_and_stop
    world.on_stop(lambda: _stop_all(pollers))


def _stop_all(pollers: Mapping[str, Poller]) -> None:
    for poller in list(pollers.values()):
        poller.stop()
