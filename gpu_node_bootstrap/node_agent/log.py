"""One JSON object a line, each with the node's name in it, so that one query tells an incident's story."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from .times import format_utc

NAMESPACE = "SpotFailover"
NO_FLEET = "none"

Sink = Callable[[Mapping[str, object]], None]


class Log:
    """Writes log lines. Thread-safe; a line that cannot be written is lost, never an error."""

    def __init__(self, *, stream: TextIO | None = None, **fields: object) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._fields = fields
        self._lock = threading.Lock()
        self._sinks: tuple[Sink, ...] = ()

    def bind(self, **fields: object) -> None:
        """Put these fields into every line from now on."""
        with self._lock:
            self._fields = {**self._fields, **fields}

    def add_sink(self, sink: Sink) -> None:
        """Give each entry from now on to `sink` too, as it is written; what that raises is lost."""
        with self._lock:
            self._sinks = (*self._sinks, sink)

    def info(self, event: str, **fields: object) -> None:
        """Say what happened."""
        self._write("INFO", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Say what went wrong and will be tried again, or does not matter for long."""
        self._write("WARNING", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Say what went wrong for good."""
        self._write("ERROR", event, fields)

    def metrics(self, values: Mapping[str, tuple[str, float]]) -> None:
        """Write metrics: (unit, number) by name, as one line that CloudWatch Logs makes metrics of.

        CloudWatch user guide, "Specification: Embedded metric format": the line's own members are the values,
        and 100 metrics are the most.
        """
        if not values:
            return
        with self._lock:
            fleet = self._fields.get("fleet", NO_FLEET)
        definition = {
            "Namespace": NAMESPACE,
            "Dimensions": [["fleet"]],
            "Metrics": [{"Name": name, "Unit": unit} for name, (unit, _) in values.items()],
        }
        header = {"Timestamp": int(time.time() * 1000), "CloudWatchMetrics": [definition]}
        numbers = {name: number for name, (_, number) in values.items()}
        self._write("INFO", "metrics", {"fleet": fleet, "_aws": header, **numbers})

    def _write(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        with self._lock:
            entry = {"at": format_utc(time.time()), "level": level, "event": event, **self._fields, **fields}
            sinks = self._sinks
            # A full disk or a closed journal must not stop a drain.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(json.dumps(entry, default=str) + "\n")
                self._stream.flush()
        for sink in sinks:
            # Without the lock: a sink may log. Whatever it is that it raises, the line is written.
            with contextlib.suppress(Exception):
                sink(entry)
