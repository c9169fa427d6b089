"""What functions write: kept for questions, and for whoever looks afterwards on disk as JSON lines."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

from local_aws.journal import Journal


class FunctionLog:
    """One function's log. Thread-safe. Metrics (EMF) are lines like any other: their `json` has `_aws`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = threading.Lock()
        self._journal = Journal(batch=100)

    def write(self, text: str, *, request_id: str | None, environment: str) -> None:
        """Keep a line: `at` in epoch seconds, `request_id`, `environment`, `text`, and `json` if it is."""
        entry = {
            "at": time.time(),
            "request_id": request_id,
            "environment": environment,
            "text": text,
            "json": _parsed(text),
        }
        with self._lock:
            self._journal.append(entry)
            with self._path.open("a") as file:
                file.write(json.dumps(entry) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """Return all lines, oldest first."""
        return self._journal.since()


def _parsed(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
