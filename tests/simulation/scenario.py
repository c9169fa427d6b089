"""A scenario: fleets, what happens to them and when, and what goes wrong meanwhile. Data, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from tests.simulation.bus import ONCE, Delivery
from tests.simulation.network import Fault
from tests.simulation.nodes import NodePlan


class End(StrEnum):
    """What comes of an interruption."""

    TERMINATE = "terminate"
    STOP = "stop"
    HIBERNATE = "hibernate"
    WITHDRAWN = "withdrawn"  # EC2 gives notice, and then takes the instance after all not


@dataclass(frozen=True)
class FleetPlan:
    """A fleet of one group. `refusals`: so many launches fail for want of capacity."""

    nodes: int = 2
    node: NodePlan = field(default_factory=NodePlan)
    target_groups: int = 1
    tagged_port: int | None = None  # a further target group, known by its tag alone, with this port
    capacity_rebalance: bool = False
    refusals: int = 0


@dataclass(frozen=True)
class Interruption:
    """A notice for the `node`-th living instance of a fleet (counted around), at so many seconds."""

    at: float
    fleet: int = 0
    node: int = 0
    end: End = End.TERMINATE
    delivery: Delivery = ONCE
    heard: bool = True  # whether the agent sees it in the instance's metadata


@dataclass(frozen=True)
class Storm:
    """A notice for every living instance of every fleet at once: spot capacity goes in bulk."""

    at: float
    end: End = End.TERMINATE


@dataclass(frozen=True)
class ForeignNotice:
    """A notice for an instance that is no fleet's: in a group of its own, or one nobody knows."""

    at: float
    known: bool = True


@dataclass(frozen=True)
class Junk:
    """A text in the queue of a function."""

    at: float
    function: str
    body: str


Event = Interruption | Storm | ForeignNotice | Junk


@dataclass(frozen=True)
class Weather:
    """The rest of what can be so or so. Seconds and counts; `seed` decides what nobody chose."""

    seed: int = 0
    concurrency: int = 2
    slowest_event: float = 1.0
    repeats: float = 0.0
    copies: frozenset[int] = frozenset()
    index_lag: float = 0.5
    left_over: frozenset[int] = frozenset()
    page_size: int = 1000
    sweeps_twice: bool = False


@dataclass(frozen=True)
class Scenario:
    """All of it."""

    fleets: tuple[FleetPlan, ...] = (FleetPlan(),)
    events: tuple[Event, ...] = ()
    faults: tuple[Fault, ...] = ()
    weather: Weather = field(default_factory=Weather)
