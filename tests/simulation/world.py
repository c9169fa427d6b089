"""An account in memory: the control plane's functions, queues, rules and table, over EC2 and the rest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import botocore.session
from spot_failover import telemetry

from tests.simulation.balancing import LoadBalancing, TagLookup, TargetGroup
from tests.simulation.bus import DRAIN_DOCUMENT, Bus
from tests.simulation.compute import Ec2, Instance, State
from tests.simulation.functions import EventSource, Function, import_all
from tests.simulation.network import Client, Network
from tests.simulation.nodes import FLEET_TAG, Nodes
from tests.simulation.queues import Queue, Sqs
from tests.simulation.scaling import AutoScaling, Group
from tests.simulation.scenario import FleetPlan, Scenario
from tests.simulation.tables import DynamoDb, Index, Table
from tests.simulation.timeline import Timeline
from tests.simulation.virtual_time import virtual_time

START = 1_795_441_080.0  # 2026-11-23T13:38:00Z, the time of the sample events
WARM_UP_SECONDS = 30.0  # before it, in which targets become healthy
TABLE = "incidents"
VISIBILITY_SECONDS = 24.0  # infra/function.py
MAX_RECEIVES = 150
NOTICE_SECONDS = 120
NOTICE_FUNCTIONS = ("deregister_target", "drain_node", "request_replacement")
QUEUE_FUNCTIONS = (*NOTICE_FUNCTIONS, "track_incident")
SWEEPER = "sweep_incidents"
SWEEP_SECONDS = 60.0
SWEEP_TIMEOUT_SECONDS = 55.0
FOREIGN_GROUP = "theirs"


@dataclass
class Queues:
    """A function's queue and its dead letters."""

    queue: Queue
    dead: Queue


class World:
    """Everything of one scenario, at its beginning."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        weather = scenario.weather
        self.timeline = Timeline(start=START - WARM_UP_SECONDS)
        self.random = Random(weather.seed)
        self.network = Network(self.timeline, Random(weather.seed + 1), scenario.faults, start=START)
        self.sqs = Sqs(self.timeline, Random(weather.seed + 2), copies=weather.copies)
        self.queues = {name: self._queues(name) for name in QUEUE_FUNCTIONS}
        self.bus = Bus(
            self.timeline,
            self.random,
            {name: each.queue for name, each in self.queues.items()},
            slowest=weather.slowest_event,
            repeats=weather.repeats,
        )
        self._make_fleets(weather.page_size)
        self.dynamodb = DynamoDb(
            self.timeline,
            lag=weather.index_lag,
            left_over=weather.left_over,
            page_size=10 * weather.page_size,
        )
        self.table = Table(
            ("incident", "entry"),
            {
                "by_fleet": Index(("fleet", "entry")),
                "open": Index(("open_incident",), frozenset({"fleet", "noticed_at", "deadline"})),
            },
        )
        self.dynamodb.tables[TABLE] = self.table
        self.backends: dict[str, object] = {
            "ec2": self.ec2,
            "autoscaling": self.groups,
            "elbv2": self.balancing,
            "resourcegroupstaggingapi": TagLookup(self.balancing),
            "ssm": self.nodes,
            "sqs": self.sqs,
            "dynamodb": self.dynamodb,
        }
        self.functions = {
            name: Function(name, self._environment(name), self.timeline) for name in QUEUE_FUNCTIONS
        }
        for name, function in self.functions.items():
            EventSource(function, self.queues[name].queue, self.sqs, weather.concurrency).begin()
        self.functions[SWEEPER] = Function(
            SWEEPER, self._environment(SWEEPER), self.timeline, timeout=SWEEP_TIMEOUT_SECONDS
        )
        self.timeline.after(SWEEP_SECONDS, self._sweep)
        for number, plan in enumerate(scenario.fleets):
            self._add_fleet(f"fleet-{number}", plan)
        self._add_foreign()
        self.timeline.run(START)

    def _make_fleets(self, page_size: int) -> None:
        self.ec2 = Ec2(self.timeline, page_size=page_size)
        self.nodes = Nodes(self.timeline, self.ec2, self.bus.emit)
        self.balancing = LoadBalancing(self.timeline, self.ec2, self.nodes.serves)
        self.groups = AutoScaling(self.timeline, self.ec2, self.balancing, self.bus.emit, self.nodes.boot)
        self.nodes.complete, self.nodes.abandon = self.groups.complete, self.groups.abandon
        self.nodes.sick = self.groups.check_later
        self.ec2.changed += [self.balancing.forget, self.groups.gone]

    def client(self, service: str, config: Any = None) -> Client:
        """Return a client over memory, with as many attempts as its configuration says."""
        retries = getattr(config, "retries", None) or {}
        return Client(
            service, self.backends[service], self.network, attempts=int(retries.get("total_max_attempts", 1))
        )

    def fleet_instances(self, fleet: str) -> list[Instance]:
        """Return all instances that ever carried a fleet's tag."""
        return [one for one in self.ec2.instances.values() if one.tags.get(FLEET_TAG) == fleet]

    def _queues(self, name: str) -> Queues:
        base = "https://sqs.us-east-1.amazonaws.com/123456789012/"
        dead = Queue(f"{base}spot-failover-{name}-dead-letters", self.timeline, VISIBILITY_SECONDS)
        queue = Queue(
            f"{base}spot-failover-{name}", self.timeline, VISIBILITY_SECONDS, redrive=(dead, MAX_RECEIVES)
        )
        self.sqs.queues |= {dead.url: dead, queue.url: queue}
        return Queues(queue, dead)

    def _environment(self, name: str) -> dict[str, str]:
        queues = self.queues.get(name)
        own = {"QUEUE_URL": queues.queue.url, "DEAD_LETTER_QUEUE_URL": queues.dead.url} if queues else {}
        return {
            "FLEET_TAG_KEY": FLEET_TAG,
            "INCIDENTS_TABLE": TABLE,
            "INCIDENT_TTL_DAYS": "90",
            "NOTICE_SECONDS": str(NOTICE_SECONDS),
            "POWERTOOLS_SERVICE_NAME": name,
            "POWERTOOLS_METRICS_NAMESPACE": "SpotFailover",
            "DRAIN_DOCUMENT": DRAIN_DOCUMENT,
            "INCIDENTS_FLEET_INDEX": "by_fleet",
            "INCIDENTS_OPEN_INDEX": "open",
            "HOLD_RESERVE_SECONDS": "25",
            "GRACE_SECONDS": "120",
            "BOOT_LIMIT_SECONDS": "300",
            **own,
        }

    def _add_fleet(self, name: str, plan: FleetPlan) -> None:
        arns = [self._target_group(f"{name}-{number}") for number in range(plan.target_groups)]
        group = Group(
            name=name,
            desired=plan.nodes,
            tags={FLEET_TAG: name},
            target_groups=tuple(arns),
            capacity_rebalance=plan.capacity_rebalance,
            refusals=plan.refusals,
        )
        self.nodes.plans[name] = plan.node
        self.groups.add(group)
        for arn in arns:
            self.balancing.groups[arn].tags[FLEET_TAG] = name
        further = self._target_group(f"{name}-tagged") if plan.tagged_port else None
        for instance_id, member in group.members.items():
            self.nodes.add(member.instance)
            if further:
                self.balancing.register(further, instance_id, plan.tagged_port)
        if further:
            self.balancing.groups[further].tags[FLEET_TAG] = name

    def _add_foreign(self) -> None:
        arn = self._target_group(FOREIGN_GROUP)
        self.groups.add(Group(FOREIGN_GROUP, 2, {"team": "theirs"}, (arn,)))

    def _target_group(self, name: str) -> str:
        arn = f"arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/{name}/0123456789abcdef"
        self.balancing.groups[arn] = TargetGroup(arn)
        return arn

    def _sweep(self) -> None:
        """Run the sweeper as its schedule does: once a minute, and no less often than that."""
        times = 2 if self.scenario.weather.sweeps_twice else 1
        for _ in range(times):
            self.functions[SWEEPER].invoke({}, lambda _: None)
        self.timeline.after(SWEEP_SECONDS, self._sweep)

    def interrupt(self, instance: Instance) -> None:
        """EC2 gives notice of an instance."""
        instance.noticed_at = self.timeline.now
        # The event's time, from which the functions count, is in whole seconds.
        instance.deadline = int(self.timeline.now) + float(NOTICE_SECONDS)
        self.groups.rebalance(instance)

    def end(self, instance: Instance, state: State) -> None:
        """EC2 does what it gave notice of."""
        if not instance.alive:
            return
        if state is State.TERMINATED:
            self.ec2.end(instance)
        else:
            self.ec2.move(instance, State.STOPPING)
            self.timeline.after(5.0, lambda: self._stopped(instance))

    def _stopped(self, instance: Instance) -> None:
        if instance.state is State.STOPPING:
            self.ec2.move(instance, State.STOPPED)


_CURRENT: list[World] = []


def _make_client(_: object, service_name: str, *args: Any, config: Any = None, **more: Any) -> Client:
    return _CURRENT[-1].client(service_name, config)


@contextlib.contextmanager
def in_memory() -> Iterator[None]:
    """Let clients, wherever they are made, be those of the running world, and clocks be its clock.

    What the functions print goes nowhere, but through all that makes it.
    """
    import_all()
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w"))
        stack.enter_context(patch.object(botocore.session.Session, "create_client", _make_client))
        stack.enter_context(virtual_time(lambda: _CURRENT[-1].timeline))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        for handler in getattr(telemetry.logger, "handlers", []):
            stack.enter_context(patch.object(handler, "stream", nowhere))
        yield


@contextlib.contextmanager
def running(world: World) -> Iterator[World]:
    """Make a world the one that clients and clocks are of."""
    _CURRENT.append(world)
    try:
        yield world
    finally:
        world.timeline.close()
        _CURRENT.pop()
