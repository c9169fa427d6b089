"""Plays a scenario from its first event until nothing is left to happen, and hands over what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, assert_never

from tests.simulation.bus import Delivery
from tests.simulation.compute import Instance, State
from tests.simulation.scaling import Lifecycle
from tests.simulation.scenario import End, Event, ForeignNotice, Interruption, Junk, Scenario, Storm
from tests.simulation.world import FOREIGN_GROUP, NOTICE_SECONDS, START, World, running

UNKNOWN_INSTANCE = "i-0feedfacefeedface"
# From the last event on: twice as long as a boot may take is how long an incident waits for its replacement.
LATE = 60.0  # seconds from which on an event may come too late for its retries
LAST_LOOK_SECONDS = 5.0
SETTLING_SECONDS = 1500.0


@dataclass(frozen=True)
class Notice:
    """An interruption as it was played: whom it met and when."""

    plan: Interruption
    instance: Instance
    fleet: str
    at: float
    booting: bool  # it had not come into service yet


@dataclass
class Outcome:
    """A world at its end, and what happened to it."""

    world: World
    notices: list[Notice] = field(default_factory=list)
    junk: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)  # what was not done shortly before a deadline

    def dead_letters(self, function: str) -> list[dict[str, Any]]:
        """Return the bodies, as far as they are JSON, of a function's dead letters."""
        bodies = []
        for message in self.world.queues[function].dead.messages.values():
            try:
                bodies.append(json.loads(message.body))
            except ValueError:
                bodies.append({})
        return bodies


def play(scenario: Scenario) -> Outcome:
    """Play a scenario."""
    with running(World(scenario)) as world:
        outcome = Outcome(world)
        for event in scenario.events:
            world.timeline.at(START + event.at, _happen(outcome, event))
        last = max((event.at for event in scenario.events), default=0.0)
        world.timeline.run(START + last + SETTLING_SECONDS)
        return outcome


def _happen(outcome: Outcome, event: Event) -> Any:
    def happen() -> None:
        match event:
            case Interruption():
                _interrupt(outcome, event)
            case Storm():
                _storm(outcome, event)
            case ForeignNotice():
                _notice_foreign(outcome.world, event)
            case Junk():
                outcome.junk.append(event.body)
                outcome.world.bus.deliver(event.body, (event.function,), Delivery((0.1,)))
            case _:
                assert_never(event)

    return happen


def _living(world: World, fleet: str) -> list[Instance]:
    return [
        one
        for one in world.fleet_instances(fleet)
        if one.alive and one.noticed_at is None and world.groups.group_of(one.instance_id)
    ]


def _storm(outcome: Outcome, storm: Storm) -> None:
    for number in range(len(outcome.world.scenario.fleets)):
        plan = Interruption(storm.at, fleet=number, end=storm.end)
        for instance in _living(outcome.world, f"fleet-{number}"):
            _give_notice(outcome, plan, instance, f"fleet-{number}")


def _interrupt(outcome: Outcome, plan: Interruption) -> None:
    fleet = f"fleet-{plan.fleet % len(outcome.world.scenario.fleets)}"
    if candidates := _living(outcome.world, fleet):
        _give_notice(outcome, plan, candidates[plan.node % len(candidates)], fleet)


def _give_notice(outcome: Outcome, plan: Interruption, instance: Instance, fleet: str) -> None:
    world = outcome.world
    member = world.groups.groups[fleet].members[instance.instance_id]
    booting = member.state is Lifecycle.PENDING_WAIT
    world.interrupt(instance)
    outcome.notices.append(Notice(plan, instance, fleet, world.timeline.now, booting))
    world.nodes.noticed(instance, heard=plan.heard)
    if not (world.scenario.faults or booting) and min(plan.delivery.delays, default=LATE) < LATE:
        world.timeline.after(NOTICE_SECONDS - LAST_LOOK_SECONDS, lambda: _look(outcome, instance))
    action = End.TERMINATE if plan.end is End.WITHDRAWN else plan.end
    _tell(world, instance.instance_id, action, plan.delivery)
    seconds = 1.0 if plan.end is End.HIBERNATE else NOTICE_SECONDS
    state = State.TERMINATED if plan.end is End.TERMINATE else State.STOPPED
    if plan.end is not End.WITHDRAWN:
        world.timeline.after(seconds, lambda: world.end(instance, state))


def _notice_foreign(world: World, event: ForeignNotice) -> None:
    theirs = next(iter(world.groups.groups[FOREIGN_GROUP].members))
    _tell(world, theirs if event.known else UNKNOWN_INSTANCE, End.TERMINATE, Delivery())


def _look(outcome: Outcome, instance: Instance) -> None:
    """Note where a node still serves shortly before its deadline, though nothing had failed."""
    if instance.alive and (left := outcome.world.balancing.registered(instance.instance_id)):
        outcome.late.append(f"{instance.instance_id} is registered in {left} shortly before its deadline")


def _tell(world: World, instance_id: str, action: End, delivery: Delivery) -> None:
    world.bus.put(
        "aws.ec2",
        "EC2 Spot Instance Interruption Warning",
        {"instance-id": instance_id, "instance-action": action.value},
        delivery,
    )
