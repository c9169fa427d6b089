"""The run itself: deploy, wait, send traffic, interrupt node after node, collect."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.endurance.clients import ClientPlan, ClientProcesses
from bench.endurance.errors import TooFewRequestsError
from bench.endurance.flatness import MEGABYTE, trends
from bench.endurance.options import Options, Profile
from bench.endurance.rounds import Round, Rounds
from bench.endurance.sampler import Sampler
from bench.endurance.verdict import Run
from local_aws.demo import scenario
from local_aws.demo.drill import wait_until
from local_aws.demo.fleet_watch import FleetWatch
from local_aws.demo.incident_record import IncidentRecord
from local_aws.demo.progress import NodeLine, PlainProgress
from local_aws.demo.request_numbers import percentile
from local_aws.demo.traffic import TrafficCounts, tokens_per_second
from local_aws.engines.commands import SERVED_MODEL_NAME
from local_aws.session import LocalAws

# Traffic without any incident before the first notice and after the last recovery.
CALM_SECONDS = 5.0
# Beyond twice the time that the missing requests should take.
REQUESTS_SECONDS = 120.0
# What clients that rest between two answers make of a second, at the least.
LEAST_PER_SECOND = 0.3

Tell = Callable[[str], None]


class RoundsOnly(PlainProgress):
    """Prints the phases; what happens to each node is too much of a hundred interruptions."""

    def step(self, text: str) -> None:
        """Say nothing."""

    def status(self, nodes: Sequence[NodeLine], requests: TrafficCounts | None) -> None:
        """Say nothing."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A fleet under traffic, looked at from all sides."""

    clients: ClientProcesses
    sampler: Sampler
    rounds: Rounds

    def play(self, options: Options, tell: Tell) -> None:
        """Take node after node, and go on asking until there are as many requests as wanted."""
        time.sleep(CALM_SECONDS)
        self.rounds.play(options.interruptions, tell=lambda done: tell(self._words(options, done)))
        self.rounds.await_last()
        time.sleep(CALM_SECONDS)
        self._await_requests(options, tell)

    def _words(self, options: Options, done: Round) -> str:
        recoveries = [each.recovery_seconds for each in self.rounds.played if each.recovery_seconds]
        middle, high = percentile(recoveries, 0.5) or 0.0, percentile(recoveries, 0.95) or 0.0
        counts = self.clients.counts()
        took = "NOT WHOLE" if done.whole_seconds is None else f"whole after {done.whole_seconds:4.1f} s"
        return (
            f"[{done.number:>3}/{options.interruptions}] {done.instance_id} {took};"
            f" recovery p50 {middle:.1f} s, p95 {high:.1f} s; {counts.complete:,} answered,"
            f" {counts.retried} retried, {counts.lost} lost;"
            f" local AWS {self.sampler.server_memory() / MEGABYTE:.0f} MB"
        )

    def _await_requests(self, options: Options, tell: Tell) -> None:
        left = options.requests - self._ended()
        if left > 0:
            tell(f"{left:,} more requests are wanted")
        rate = options.profile.requests_per_second or LEAST_PER_SECOND
        limit = 2 * max(0, left) / rate + REQUESTS_SECONDS
        if not wait_until(lambda: self._ended() >= options.requests, seconds=limit):
            raise TooFewRequestsError(f"only {self._ended():,} of {options.requests:,} requests")

    def _ended(self) -> int:
        counts = self.clients.counts()
        return counts.complete + counts.lost


@contextmanager
def under_traffic(
    aws: LocalAws, watch: FleetWatch, *, profile: Profile, incidents_table: str
) -> Iterator[Stage]:
    """Have clients ask a whole fleet, and its processes sampled, until the end of the block."""
    base_url = f"{aws.control.load_balancer_url(scenario.FLEET)}/v1"
    per_second = profile.requests_per_second
    plan = ClientPlan(
        base_url=base_url,
        model=SERVED_MODEL_NAME,
        rate=tokens_per_second(base_url, SERVED_MODEL_NAME),
        clients=profile.clients,
        requests_per_second=None if per_second is None else per_second / profile.client_processes,
    )
    rounds = Rounds(
        control=aws.control,
        watch=watch,
        record=IncidentRecord(aws.client("dynamodb"), incidents_table),
        profile=profile,
        witness=watch.healthy()[0].instance_id if profile.witness else None,
    )
    with (
        ClientProcesses(plan, processes=profile.client_processes) as clients,
        Sampler(server_pid=aws.pid) as sampler,
    ):
        yield Stage(clients=clients, sampler=sampler, rounds=rounds)


def play(options: Options, progress: RoundsOnly) -> Run:
    """Play the whole run. Raises DemoError, or the local AWS's own errors, where it cannot be judged."""
    started_at, profile = datetime.now(UTC), options.profile
    state_dir = options.out / "local-aws"
    shutil.rmtree(state_dir, ignore_errors=True)
    progress.phase("starting a local AWS")
    with LocalAws(state_dir.resolve(), engine=options.engine) as aws:
        progress.phase("deploying the control plane and the fleet with the CDK")
        deployed = aws.deploy(
            scenario.deployment_context(nodes=profile.nodes, notice_seconds=profile.notice_seconds)
        )
        table = deployed.outputs[scenario.CONTROL_PLANE_STACK]["IncidentsTable"]
        with FleetWatch(aws.control, progress) as watch:
            progress.phase(f"waiting for {profile.nodes} nodes to answer their first completion")
            scenario.await_fleet(watch, nodes=profile.nodes, out=options.out)
            engine = {
                "kind": options.engine,
                "name": scenario.ENGINE_NAMES[options.engine],
                "version": scenario.engine_version(aws.control.load_balancer_url(scenario.FLEET)),
            }
            with under_traffic(aws, watch, profile=profile, incidents_table=table) as stage:
                progress.phase(f"traffic, and {options.interruptions} interruptions, one after another")
                stage.play(options, progress.phase)
                progress.phase("letting the last requests finish")
                return _collected(stage, options, engine=engine, started_at=started_at)


def _collected(stage: Stage, options: Options, *, engine: dict[str, str], started_at: datetime) -> Run:
    ended = time.time()
    records = stage.clients.stop()
    samples = [each for each in stage.sampler.samples() if each.at <= ended]
    return Run(
        options=options,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        engine=engine,
        records=records,
        interruptions=stage.rounds.interruptions(end=ended),
        samples=samples,
        trends=trends(samples, witness=stage.rounds.witness),
        versions=scenario.versions(),
        machine={"system": platform.platform(), "cpus": os.cpu_count()},
    )
