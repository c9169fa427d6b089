"""What grows is found, and what only comes and goes is not taken for growth."""

from __future__ import annotations

import pytest

from bench.endurance.flatness import MEGABYTE, Sample, Trait, Trend, trends
from bench.endurance.processes import Part, Reading

SECONDS = 3.0
COUNT = 240
WITNESS = "i-witness"


def reading(
    part: Part, *, pid: int, name: str = "", memory: float = 100.0, threads: int = 10, descriptors: int = 20
) -> Reading:
    return Reading(
        pid=pid,
        started=pid * 100,
        part=part,
        name=name,
        memory_bytes=int(memory * MEGABYTE),
        threads=threads,
        descriptors=descriptors,
    )


def sample(place: int, *readings: Reading) -> Sample:
    return Sample(1000.0 + place * SECONDS, readings)


def quiet(place: int) -> tuple[Reading, ...]:
    """Return a run in which nothing grows; a node comes every five samples, its agent heavier at first."""
    age = place % 5
    return (
        reading(Part.SERVER, pid=1, memory=300),
        reading(Part.FUNCTION, pid=2, name="drain_node", memory=80),
        reading(Part.AGENT, pid=3, name=WITNESS, memory=30),
        reading(Part.ENGINE, pid=4, name=WITNESS, memory=60),
        reading(Part.AGENT, pid=100 + place // 5, name=f"i-{place // 5}", memory=40 if age == 0 else 30),
    )


def growing(found: list[Trend]) -> list[tuple[str, Trait]]:
    return [(trend.who, trend.trait) for trend in found if trend.grows]


def test_nothing_grows_where_nodes_come_and_go() -> None:
    found = trends([sample(place, *quiet(place)) for place in range(COUNT)], witness=WITNESS)
    assert growing(found) == []
    assert all(trend.judged for trend in found)
    assert {trend.who for trend in found} == {
        "local AWS",
        "function drain_node",
        f"node agent {WITNESS}",
        f"engine {WITNESS}",
        "agents of the nodes that came and went",
        "all processes",
    }


@pytest.mark.parametrize(
    ("memory", "threads", "descriptors", "trait"),
    [(0.2, 0, 0, Trait.MEMORY), (0, 1, 0, Trait.THREADS), (0, 0, 1, Trait.DESCRIPTORS)],
)
def test_leak_of_each_of_a_hundred_interruptions_is_found_in_the_server(
    memory: float, threads: int, descriptors: int, trait: Trait
) -> None:
    samples = []
    for place in range(COUNT):
        done = place * 100 // COUNT
        server = reading(
            Part.SERVER,
            pid=1,
            memory=300 + memory * done,
            threads=40 + threads * done,
            descriptors=60 + descriptors * done,
        )
        samples.append(sample(place, server, *quiet(place)[1:]))
    assert growing(trends(samples, witness=WITNESS)) == [("local AWS", trait)]


@pytest.mark.parametrize("part", [Part.FUNCTION, Part.AGENT, Part.ENGINE])
def test_leak_is_found_in_each_kind_of_process_that_lasts(part: Part) -> None:
    name = "drain_node" if part is Part.FUNCTION else WITNESS
    samples = [
        sample(place, *(each for each in quiet(place) if (each.part, each.name) != (part, name)),
               reading(part, pid=9, name=name, descriptors=20 + place // 10))
        for place in range(COUNT)
    ]  # fmt: skip
    ((who, trait),) = growing(trends(samples, witness=WITNESS))
    assert who.startswith(part.value)
    assert trait is Trait.DESCRIPTORS


def test_agents_that_begin_heavier_from_node_to_node_are_found() -> None:
    samples = [
        sample(
            place,
            *quiet(place)[:-1],
            reading(Part.AGENT, pid=100 + place // 5, name=f"i-{place // 5}", memory=30 + place / 10),
        )
        for place in range(COUNT)
    ]
    assert growing(trends(samples, witness=WITNESS)) == [
        ("agents of the nodes that came and went", Trait.MEMORY)
    ]


def test_processes_that_stay_behind_are_found() -> None:
    samples = [
        sample(place, *quiet(place), *(reading(Part.OTHER, pid=5000 + n) for n in range(place // 10)))
        for place in range(COUNT)
    ]
    assert growing(trends(samples, witness=WITNESS)) == [("all processes", Trait.PROCESSES)]


def test_function_that_started_late_is_judged_by_its_own_life_and_a_short_one_not_at_all() -> None:
    samples = [
        sample(
            place,
            *quiet(place),
            *(
                [reading(Part.FUNCTION, pid=7, name="late", descriptors=place)]
                if place > COUNT * 0.35
                else []
            ),
            *(
                [reading(Part.FUNCTION, pid=8, name="short", descriptors=place)]
                if place > COUNT * 0.6
                else []
            ),
        )
        for place in range(COUNT)
    ]
    assert growing(trends(samples, witness=WITNESS)) == [("function late", Trait.DESCRIPTORS)]


def test_two_environments_of_a_function_are_told_apart() -> None:
    samples = [
        sample(place, *quiet(place), reading(Part.FUNCTION, pid=6, name="drain_node"))
        for place in range(COUNT)
    ]
    names = {trend.who for trend in trends(samples) if trend.who.startswith("function")}
    assert names == {"function drain_node", "function drain_node (2)"}


def test_run_too_short_to_tell_is_not_judged() -> None:
    found = trends([sample(place, *quiet(place)) for place in range(20)], witness=WITNESS)
    assert found
    assert not any(trend.judged or trend.grows for trend in found)
    assert trends([]) == []
