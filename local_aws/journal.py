"""A record of everything that happened, in memory as far as it is new and on disk as far as it is old."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Whoever follows a journal asks for its end: one batch stays in memory, and a second one grows behind it.
BATCH = 1000


@dataclass(frozen=True, slots=True)
class _Batch:
    offset: int
    length: int


class Journal:
    """JSON objects, numbered from 0 in the order of their arrival. Thread-safe.

    A local AWS that runs for hours holds no more of it than one that runs for minutes: full batches go to a
    file without a name, which is gone with the process.
    """

    def __init__(self, *, batch: int = BATCH) -> None:
        self._size = batch
        self._lock = threading.Lock()
        self._recent: list[Mapping[str, Any]] = []
        self._written: list[_Batch] = []
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the journal is there

    def __len__(self) -> int:
        with self._lock:
            return self._length()

    def append(self, entry: Mapping[str, Any], *, number_as: str | None = None) -> None:
        """Add an entry, which nobody may alter any more; its number becomes its field `number_as`."""
        with self._lock:
            if number_as is not None:
                entry = {number_as: self._length(), **entry}
            self._recent.append(entry)
            if len(self._recent) >= 2 * self._size:
                self._write_oldest()

    def since(self, number: int = 0) -> list[dict[str, Any]]:
        """Return the entries from that number on, oldest first."""
        with self._lock:
            first = max(0, number) // self._size
            found = [entry for batch in self._written[first:] for entry in self._read(batch)]
            begins = min(first, len(self._written)) * self._size
            found += [dict(entry) for entry in self._recent]
            return found[max(0, number) - begins :]

    def _length(self) -> int:
        return len(self._written) * self._size + len(self._recent)

    def _write_oldest(self) -> None:
        oldest, self._recent = self._recent[: self._size], self._recent[self._size :]
        text = json.dumps(oldest).encode()
        offset = self._file.seek(0, 2)
        self._file.write(text)
        self._written.append(_Batch(offset, len(text)))

    def _read(self, batch: _Batch) -> list[dict[str, Any]]:
        self._file.seek(batch.offset)
        entries: list[dict[str, Any]] = json.loads(self._file.read(batch.length))
        return entries
