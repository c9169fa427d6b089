"""A clock for queues alone, so that no test waits for a visibility timeout, and a look into a queue."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from moto.sqs import models as sqs_models
from moto.sqs.models import Message, Queue, sqs_backends

from local_aws.world import World


class QueueClock:
    """Real time, plus what was skipped. Visibility and delays go by it; a message's retention does not."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._real_milliseconds = sqs_models.unix_time_millis
        self._skipped_milliseconds = 0.0

    def milliseconds(self) -> float:
        """Return the queues' time, in milliseconds since the epoch."""
        return float(self._real_milliseconds()) + self._skipped_milliseconds

    def skip(self, given: Mapping[str, Any]) -> dict[str, float]:
        """Let `given["seconds"]` pass at once."""
        seconds = float(given["seconds"])
        if seconds < 0:
            raise ValueError("time does not go back")
        with self._world.lock:
            self._skipped_milliseconds += seconds * 1000
        return {"skipped_seconds": self._skipped_milliseconds / 1000}

    def messages(self, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what is in the queues whose names are `given["names"]` (joined by commas), in flight or not.

        Each with queue, id, body, receive_count, visible_in (seconds; 0: now) and its text attributes.
        """
        names = str(given["names"]).split(",")
        with self._world.lock:
            queues = sqs_backends[self._world.account_id][self._world.region].queues
            if missing := [name for name in names if name not in queues]:
                raise LookupError(f"there is no queue {', '.join(missing)}")
            found = itertools.chain.from_iterable(self._views(queues[name]) for name in names)
            return list(found)

    def empty(self, given: Mapping[str, Any]) -> dict[str, int]:
        """Forget all messages of the queue `given["name"]` at once; AWS's own PurgeQueue takes a minute."""
        with self._world.lock:
            queue = sqs_backends[self._world.account_id][self._world.region].queues[str(given["name"])]
            number = len(queue._messages)
            queue._messages.clear()
            queue.pending_messages.clear()
        return {"forgotten": number}

    def _views(self, queue: Queue) -> list[dict[str, Any]]:
        now = self.milliseconds()
        return [_view(queue, message, now) for message in queue._messages]


def _view(queue: Queue, message: Message, now: float) -> dict[str, Any]:
    seen_at = max(float(message.visible_at), float(message.delayed_until))
    attributes = message.message_attributes.items()
    return {
        "queue": queue.name,
        "id": message.id,
        "body": message.body,
        "receive_count": message.approximate_receive_count,
        "visible_in": max(0.0, (seen_at - now) / 1000),
        "attributes": {
            name: value.get("StringValue") or value.get("string_value") for name, value in attributes
        },
    }


def install(world: World) -> None:
    """Let the queues go by this clock, and serve it."""
    clock = QueueClock(world)
    sqs_models.unix_time_millis = clock.milliseconds
    world.route("POST", "queue-clock", clock.skip)
    world.route("GET", "queue-messages", clock.messages)
    world.route("DELETE", "queue-messages", clock.empty)
