"""How busy the local AWS was: whether its own speed, and not AWS's limits, decided what was measured.

Its Python runs on one processor at a time, so a process that uses a whole one answers no faster.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType

SAMPLE_SECONDS = 0.25
BUSY = 0.9
"""Of one processor: above that, the endpoint is taken for the bottleneck."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """Processor seconds used so far: by one process, and by the whole machine."""

    at: float
    process: float
    machine: float


@dataclass(frozen=True)
class Load:
    """`endpoint_busy` is the share of time in which the endpoint used a processor's whole power."""

    endpoint_processors: float
    endpoint_busy: float
    machine_processors: float

    def to_json(self) -> dict[str, float]:
        """Return the figures, rounded."""
        return {name: round(value, 3) for name, value in vars(self).items()}


def load_between(samples: Sequence[Sample], start: float, end: float) -> Load:
    """Return the load of a time. Raises ValueError where there are fewer than two samples in it."""
    inside = [each for each in samples if start <= each.at <= end]
    if len(inside) < 2:
        raise ValueError(f"{len(inside)} samples between {start:.1f} and {end:.1f}")
    first, last = inside[0], inside[-1]
    seconds = last.at - first.at
    busy = sum(
        after.at - before.at
        for before, after in pairwise(inside)
        if after.process - before.process >= BUSY * (after.at - before.at)
    )
    return Load(
        endpoint_processors=(last.process - first.process) / seconds,
        endpoint_busy=busy / seconds,
        machine_processors=(last.machine - first.machine) / seconds,
    )


class LoadSampler:
    """Samples a process and the machine until it is left. Times are epoch seconds."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> LoadSampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.samples.append(read_sample(self._pid))
            if self._stopped.wait(SAMPLE_SECONDS):
                return


def read_sample(pid: int) -> Sample:
    """Read /proc now. Raises OSError where the process is gone."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # utime and stime are fields 14 and 15 of proc(5), the first two of what follows the name being 3 and 4.
    process = (int(stat[11]) + int(stat[12])) / _TICKS
    cpu = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    idle = int(cpu[3]) + int(cpu[4])
    machine = (sum(int(each) for each in cpu[:8]) - idle) / _TICKS
    return Sample(time.time(), process, machine)
