"""The agent's log in CloudWatch Logs: what a node said outlives the node.

Limits are those of the CloudWatch Logs API reference, PutLogEvents: 1,048,576 bytes a batch, counted as UTF-8
plus 26 for each event; 256 KB an event; 10,000 events; 24 hours; in the order of their times. Metrics need no
more (CloudWatch user guide, "Using the PutLogEvents API to send manually-created embedded metric format
logs").
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence

from .aws_cli import STDIN, aws
from .errors import AwsCliError
from .log import Log
from .outbox import Outbox
from .settings import Settings
from .times import parse_utc

IDLE_SECONDS = 30.0
"""A line that tells of nothing urgent waits this long for others: each batch is a call."""
SOON_SECONDS = 2.0
"""An urgent one waits for those that belong to it, and lets the launch hook's own call go first."""
URGENT_LEVELS = frozenset({"WARNING", "ERROR"})
URGENT_EVENTS = frozenset(
    {
        "ready",
        "hook_completed",
        "notice",
        "drain_started",
        "drain_finished",
        "boot_ended",
        "boot_failed",
        "engine_failed",
        "recovered",
        "agent_ended",
    }
)
MOST_LINES = 5_000
MOST_BATCH_BYTES = 1_000_000
MOST_LINE_BYTES = 200_000
LINE_OVERHEAD_BYTES = 26
LONGEST_SPAN_MS = 24 * 3600 * 1000

LogEvent = Mapping[str, object]


class LogShipper:
    """Sends each line of a log to the fleet's log group, into the instance's own stream."""

    def __init__(self, settings: Settings, *, instance_id: Callable[[], str | None], log: Log) -> None:
        """Take the log's lines from now on; without a log group, do nothing at all."""
        self._group = settings.log_group
        self._region = settings.region
        self._instance_id = instance_id
        self._stream: str | None = None
        self._outbox: Outbox[LogEvent] = Outbox("log", send=self._send, room=MOST_LINES, log=log)
        if self._group:
            log.add_sink(self._take)

    def start(self) -> None:
        """Ship from now on, what was logged before included."""
        if self._group:
            self._outbox.start()

    def close(self, *, grace_seconds: float) -> None:
        """Ship what is left, within this time."""
        if self._group:
            self._outbox.close(grace_seconds=grace_seconds)

    def _take(self, entry: Mapping[str, object]) -> None:
        urgent = entry["level"] in URGENT_LEVELS or entry["event"] in URGENT_EVENTS
        self._outbox.put(log_event(entry), within_seconds=SOON_SECONDS if urgent else IDLE_SECONDS)

    def _send(self, events: Sequence[LogEvent], timeout_seconds: float) -> int:
        instance_id = self._instance_id()
        if instance_id is None:
            return 0
        ends_at = time.monotonic() + timeout_seconds
        if self._stream != instance_id:
            self._create_stream(instance_id, timeout_seconds)
            self._stream = instance_id
        batch = first_batch(events)
        aws(
            *("logs", "put-log-events", "--log-group-name", self._group),
            *("--log-stream-name", instance_id, "--log-events", STDIN),
            region=self._region,
            timeout_seconds=max(0.1, ends_at - time.monotonic()),
            input_text=json.dumps(sorted(batch, key=_timestamp)),
        )
        return len(batch)

    def _create_stream(self, name: str, timeout_seconds: float) -> None:
        arguments = ("--log-group-name", self._group, "--log-stream-name", name)
        try:
            aws(
                "logs",
                "create-log-stream",
                *arguments,
                region=self._region,
                timeout_seconds=timeout_seconds,
            )
        except AwsCliError as err:
            # An agent that was started again finds its stream.
            if "ResourceAlreadyExistsException" not in str(err):
                raise


def log_event(entry: Mapping[str, object]) -> LogEvent:
    """Return an entry as CloudWatch Logs takes it; of a line that is too long, the end is missing."""
    message = json.dumps(entry, default=str)  # ASCII: a character is a byte
    return {"timestamp": round(parse_utc(str(entry["at"])) * 1000), "message": message[:MOST_LINE_BYTES]}


def first_batch(events: Sequence[LogEvent]) -> Sequence[LogEvent]:
    """Return as many of the events, from the first on, as one call takes."""
    size, earliest, latest = 0, _timestamp(events[0]), _timestamp(events[0])
    for number, event in enumerate(events):
        earliest, latest = min(earliest, _timestamp(event)), max(latest, _timestamp(event))
        size += len(str(event["message"])) + LINE_OVERHEAD_BYTES
        if size > MOST_BATCH_BYTES or latest - earliest >= LONGEST_SPAN_MS:
            return events[:number]
    return events


def _timestamp(event: LogEvent) -> int:
    return int(str(event["timestamp"]))
