"""What every part of the local AWS shares: where it runs, what time it saw what, and how events leave it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from local_aws.journal import Journal

EngineKind = Literal["real", "emulated"]
NodeKind = EngineKind | Literal["none"]
"""What nodes run: an engine of a kind, or nothing at all (see nodes/bare.py)."""


class Timeline:
    """Every observed change, in order. Thread-safe; entries are never altered."""

    def __init__(self) -> None:
        self._journal = Journal()
        self._lock = threading.Lock()  # or two entries' times could contradict their order

    def record(self, kind: str, **fields: Any) -> None:
        """Append an entry: `at` in epoch seconds, `seq` from 0, `kind`, and the given JSON fields."""
        with self._lock:
            self._journal.append({"at": time.time(), "kind": kind, **fields}, number_as="seq")

    def since(self, seq: int) -> list[dict[str, Any]]:
        """Return the entries from number `seq` on."""
        return self._journal.since(seq)


@dataclass
class World:
    """One local AWS. Made once at start and handed to each part's `install(world)`."""

    region: str
    account_id: str
    endpoint_url: str
    state_dir: Path
    engine: NodeKind
    address_prefix: str  # "127.A.B": this local AWS's own /24 of the loopback range
    process_mark: Mapping[str, str]
    """Environment that every process started here must carry: what outlives this local AWS is found
    by it and killed. Children that inherit our environment have it already."""
    lock: threading.RLock = field(default_factory=threading.RLock)
    """Held around every API call (one call is atomic on AWS too). Threads that read or change moto's
    models hold it as well, and never wait for anything while they do."""
    timeline: Timeline = field(default_factory=Timeline)
    stop_callbacks: list[Callable[[], None]] = field(default_factory=list)
    routes: dict[tuple[str, str], Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    emit_event: Callable[..., Any] = field(init=False)
    invoke_later: Callable[[str, bytes], None] = field(init=False)
    """Puts an event for the function with this ARN into Lambda's own queue, and returns at once."""

    def route(self, method: str, path: str, handler: Callable[[Mapping[str, Any]], Any]) -> None:
        """Serve `/_local/<path>`: the handler takes the request's JSON (or query) and returns a JSON value.

        A `LookupError` from it becomes 404, a `ValueError` 400, with the message. Runs without `lock`.
        """
        self.routes[(method, path)] = handler

    def emit(
        self,
        *,
        source: str,
        detail_type: str,
        detail: Mapping[str, Any],
        resources: Sequence[str] = (),
        at: float | None = None,
    ) -> None:
        """Put an event on the default bus as AWS itself would; `at` is epoch seconds (now if None)."""
        self.emit_event(source=source, detail_type=detail_type, detail=detail, resources=resources, at=at)

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Run `callback` when the local AWS stops; callbacks run last in, first out."""
        self.stop_callbacks.append(callback)
