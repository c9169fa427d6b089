"""Looks at the local processes every few seconds, from a thread of its own."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from bench.endurance.flatness import Sample
from bench.endurance.processes import Part, read_all

SAMPLE_SECONDS = 3.0


class Sampler:
    """A context manager; inside it samples are taken."""

    def __init__(self, *, server_pid: int, seconds: float = SAMPLE_SECONDS) -> None:
        self._server_pid = server_pid
        self._seconds = seconds
        self._samples: list[Sample] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def samples(self) -> tuple[Sample, ...]:
        """Return what was seen so far, oldest first."""
        return tuple(self._samples)

    def server_memory(self) -> int:
        """Return the local AWS's memory in bytes as last seen; 0 before the first look."""
        if not self._samples:
            return 0
        last = self._samples[-1].readings
        return next((each.memory_bytes for each in last if each.part is Part.SERVER), 0)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            self._samples.append(Sample(time.time(), read_all(self._server_pid)))
