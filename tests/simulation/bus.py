"""EventBridge in memory: an event to the queues of the rules that match it, late, twice, or never."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from random import Random
from typing import Any

from tests.simulation.queues import Message, Queue
from tests.simulation.timeline import Timeline

DRAIN_DOCUMENT = "SpotFailover-DrainNode"
FINAL = ("Success", "Failed", "TimedOut", "Cancelled")


@dataclass(frozen=True)
class Delivery:
    """How an event reaches its queues: after these delays, in seconds, once for each; never without one."""

    delays: tuple[float, ...] = (0.3,)


ONCE = Delivery()


def targets_of(source: str, detail_type: str, detail: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the functions whose queues take an event, as the deployed rules say."""
    if (source, detail_type) == ("aws.ec2", "EC2 Spot Instance Interruption Warning"):
        return ("deregister_target", "drain_node", "request_replacement")
    launches = ("EC2 Instance Launch Successful", "EC2 Instance Launch Unsuccessful")
    if source == "aws.autoscaling" and detail_type in launches:
        return ("track_incident",)
    command = (source, detail_type) == ("aws.ssm", "EC2 Command Invocation Status-change Notification")
    if command and detail.get("document-name") == DRAIN_DOCUMENT and detail.get("status") in FINAL:
        return ("track_incident",)
    if source == "spot-failover.node" and detail_type.startswith("Spot Failover Node "):
        return ("track_incident",)
    return ()


@dataclass
class Bus:
    """The default bus. Of the events beside notices, each is told again with the chance `repeats`."""

    timeline: Timeline
    random: Random
    queues: Mapping[str, Queue]  # by function
    slowest: float = 1.0  # seconds until an event is delivered, at most
    repeats: float = 0.0
    heard: list[Callable[[str, dict[str, Any]], None]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def emit(self, source: str, detail_type: str, detail: dict[str, Any]) -> None:
        """Put an event on the bus."""
        times = 2 if self.random.random() < self.repeats else 1
        self.put(source, detail_type, detail, Delivery(tuple(self._delay() for _ in range(times))))

    def put(self, source: str, detail_type: str, detail: dict[str, Any], delivery: Delivery) -> None:
        """Put an event on the bus and deliver it so. Its time is in whole seconds, as on AWS."""
        number = next(self._numbers)
        event = {
            "version": "0",
            "id": f"event-{number}",
            "detail-type": detail_type,
            "source": source,
            "account": "123456789012",
            "time": datetime.fromtimestamp(int(self.timeline.now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": "us-east-1",
            "resources": [],
            "detail": detail,
        }
        body = json.dumps(event)
        for hear in self.heard:
            hear(detail_type, detail)
        self.deliver(body, targets_of(source, detail_type, detail), delivery)

    def deliver(self, body: str, functions: Sequence[str], delivery: Delivery) -> None:
        """Bring a text to the functions' queues, to each by a way of its own."""
        for function in functions:
            queue = self.queues[function]
            for delay in delivery.delays:
                self.timeline.after(delay * self.random.uniform(0.5, 1.0), self._sender(queue, body))

    def _sender(self, queue: Queue, body: str) -> Callable[[], None]:
        def send() -> None:
            now = self.timeline.now
            queue.send(Message(f"sent-{next(self._numbers)}", body, now, now))

        return send

    def _delay(self) -> float:
        return self.random.uniform(0.1, self.slowest)
