"""Whether what the local processes hold stays as it was. Pure.

A figure is flat where the median of its last quarter is not above the median of its first by more than a
tolerance. Medians, because a node that boots or drains just then is no growth; quarters, because a leak of
every interruption adds up between them to three quarters of what it adds up to in the whole run.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.endurance.processes import Part, Reading

MEGABYTE = 1_000_000
# Of a quarter; with less, chance decides.
LEAST_SAMPLES = 10
# A process that was there for less of the run says little about growth; all agents together do.
LASTING_SHARE = 0.6


class Trait(StrEnum):
    """What is looked at."""

    MEMORY = "memory"
    THREADS = "threads"
    DESCRIPTORS = "descriptors"
    PROCESSES = "processes"


@dataclass(frozen=True, slots=True)
class Sample:
    """All processes at one moment (epoch seconds)."""

    at: float
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Trend:
    """A figure's medians in the first and the last quarter; memory in bytes. None: too few samples."""

    who: str
    trait: Trait
    first: float | None
    last: float | None
    allowed: float
    """By how much the last may be above the first."""

    @property
    def judged(self) -> bool:
        """Whether there was enough to judge by."""
        return self.first is not None and self.last is not None

    @property
    def grows(self) -> bool:
        """Whether the figure grew by more than it may; never where it is not judged."""
        return self.first is not None and self.last is not None and self.last - self.first > self.allowed


def allowance(trait: Trait, first: float) -> float:
    """Return by how much a figure may grow.

    Python's allocator keeps arenas that one long-lived object each holds, and glibc's malloc an arena for
    each thread that asks at the same time as others: some megabytes come with time and stay without any leak.
    """
    match trait:
        case Trait.MEMORY:
            return max(6.0 * MEGABYTE, 0.03 * first)
        case Trait.THREADS:
            return max(2.0, 0.1 * first)
        case Trait.DESCRIPTORS:
            return max(4.0, 0.1 * first)
        case Trait.PROCESSES:
            return max(4.0, 0.1 * first)


def trends(samples: Sequence[Sample], *, witness: str | None = None) -> list[Trend]:
    """Judge the server, the lasting functions, the witness's agent and engine, all agents, and how many run.

    `witness` is the instance id of a node that lived through the whole run.
    """
    if not samples:
        return []
    span = (samples[0].at, samples[-1].at)
    found: list[Trend] = []
    for (part, name, label), series in _lasting(samples, span).items():
        if part in (Part.AGENT, Part.ENGINE) and name != witness:
            continue
        found += _of_readings(label, series, span)
    agents = [
        (sample.at, reading)
        for sample in samples
        for reading in sample.readings
        if reading.part is Part.AGENT and reading.name != witness
    ]
    found += _of_readings("agents of the nodes that came and went", agents, span)
    counts = [(sample.at, float(len(sample.readings))) for sample in samples]
    return [*found, _trend("all processes", Trait.PROCESSES, counts, span)]


_Series = list[tuple[float, Reading]]


def _lasting(samples: Sequence[Sample], span: tuple[float, float]) -> dict[tuple[Part, str, str], _Series]:
    """Return the readings of each process that was there for most of the time, the server first."""
    by_process: dict[tuple[int, int], _Series] = {}
    for sample in samples:
        for reading in sample.readings:
            by_process.setdefault((reading.pid, reading.started), []).append((sample.at, reading))
    lasting = [
        series
        for series in by_process.values()
        if series[-1][0] - series[0][0] >= LASTING_SHARE * (span[1] - span[0])
        and series[0][1].part is not Part.OTHER
    ]
    order = list(Part)
    lasting.sort(key=lambda series: (order.index(series[0][1].part), series[0][1].name))
    named: dict[tuple[Part, str, str], _Series] = {}
    for series in lasting:
        one = series[0][1]
        label = " ".join(filter(None, (one.part.value, one.name)))
        again = sum(key[:2] == (one.part, one.name) for key in named)
        named[(one.part, one.name, f"{label} ({again + 1})" if again else label)] = series
    return named


def _of_readings(who: str, series: _Series, span: tuple[float, float]) -> list[Trend]:
    figures: dict[Trait, Callable[[Reading], float]] = {
        Trait.MEMORY: lambda reading: float(reading.memory_bytes),
        Trait.THREADS: lambda reading: float(reading.threads),
        Trait.DESCRIPTORS: lambda reading: float(reading.descriptors),
    }
    # A process that came later is judged by its own life.
    own = (max(span[0], series[0][0]), min(span[1], series[-1][0])) if series else span
    return [
        _trend(who, trait, [(at, figure(reading)) for at, reading in series], own)
        for trait, figure in figures.items()
    ]


def _trend(who: str, trait: Trait, points: Iterable[tuple[float, float]], span: tuple[float, float]) -> Trend:
    begin, end = span
    quarter = (end - begin) / 4
    points = list(points)
    early = [value for at, value in points if at <= begin + quarter]
    late = [value for at, value in points if at >= end - quarter]
    if min(len(early), len(late)) < LEAST_SAMPLES:
        return Trend(who, trait, None, None, 0.0)
    first = float(statistics.median(early))
    return Trend(who, trait, first, float(statistics.median(late)), allowance(trait, first))
