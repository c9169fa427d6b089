"""One JSON object a line, each with the node's name in it, so that one query tells an incident's story."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TextIO

from .times import format_utc


class Log:
    """Writes log lines. Thread-safe; a line that cannot be written is lost, never an error."""

    def __init__(self, *, stream: TextIO | None = None, **fields: object) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._fields = fields
        self._lock = threading.Lock()

    def bind(self, **fields: object) -> None:
        """Put these fields into every line from now on."""
        with self._lock:
            self._fields = {**self._fields, **fields}

    def info(self, event: str, **fields: object) -> None:
        """Say what happened."""
        self._write("INFO", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Say what went wrong and will be tried again, or does not matter for long."""
        self._write("WARNING", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Say what went wrong for good."""
        self._write("ERROR", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        with self._lock:
            entry = {"at": format_utc(time.time()), "level": level, "event": event, **self._fields, **fields}
            try:
                self._stream.write(json.dumps(entry, default=str) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # A full disk or a closed journal must not stop a drain.
                return
