"""The run, from nothing to evidence: deploy, wait, send traffic, time a bare start, interrupt, stop."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import time
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from local_aws.demo.checks import Evidence
from local_aws.demo.drill import Drill, wait_until
from local_aws.demo.errors import FleetNotReadyError
from local_aws.demo.fleet_watch import FleetWatch
from local_aws.demo.incident_record import IncidentRecord
from local_aws.demo.interruptions import Interruption
from local_aws.demo.options import Options
from local_aws.demo.progress import Progress
from local_aws.demo.report import EngineIdentity, FleetFacts, Run
from local_aws.demo.story import Story, node_lives
from local_aws.demo.traffic import Traffic, tokens_per_second
from local_aws.deploy import CDK, DeployOutcome
from local_aws.engines import commands as engines
from local_aws.session import LocalAws
from local_aws.world import EngineKind

FLEET = "demo"
CONTROL_PLANE_STACK = "SpotFailoverControlPlane"
FLEET_READY_SECONDS = 300.0
# Traffic without any incident before the first notice and after the last recovery, for comparison.
CALM_SECONDS = 6.0
ENGINE_NAMES: dict[EngineKind, str] = {"real": "vLLM, CPU build", "emulated": "EMULATED engine (not vLLM)"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A run's evidence, and the story that the picture tells."""

    run: Run
    story: Story


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What every part of the run needs."""

    options: Options
    progress: Progress
    aws: LocalAws
    watch: FleetWatch


def play(options: Options, progress: Progress) -> Outcome:
    """Play the whole run. Raises DemoError, or the local AWS's own errors, where it cannot be judged."""
    started_at = datetime.now(UTC)
    state_dir = options.out / "local-aws"
    shutil.rmtree(state_dir, ignore_errors=True)
    progress.phase("starting a local AWS")
    with LocalAws(state_dir.resolve(), engine=options.engine) as aws:
        progress.phase("deploying the control plane and the fleet with the CDK")
        deployed = aws.deploy(deployment_context(nodes=options.nodes, notice_seconds=options.notice_seconds))
        with FleetWatch(aws.control, progress) as watch:
            stage = Stage(options=options, progress=progress, aws=aws, watch=watch)
            return _play_deployed(stage, deployed, started_at)


def deployment_context(*, nodes: int, notice_seconds: int) -> dict[str, Any]:
    """Return the CDK context of one fleet, called FLEET, whose nodes get a notice of that many seconds."""
    fleet = {
        "name": FLEET,
        "model": engines.SERVED_MODEL_NAME,
        "served_model_name": engines.SERVED_MODEL_NAME,
        "nodes": nodes,
    }
    return {"fleets": [fleet], "notice_seconds": str(notice_seconds)}


def _play_deployed(stage: Stage, deployed: DeployOutcome, started_at: datetime) -> Outcome:
    options, watch = stage.options, stage.watch
    stage.progress.phase(f"waiting for {options.nodes} nodes to answer their first completion")
    ready_seconds = await_fleet(watch, nodes=options.nodes, out=options.out)
    url = stage.aws.control.load_balancer_url(FLEET)
    rate = tokens_per_second(f"{url}/v1", engines.SERVED_MODEL_NAME)
    engine = EngineIdentity(
        name=ENGINE_NAMES[options.engine], version=engine_version(url), model=engines.SERVED_MODEL_NAME
    )
    table = deployed.outputs[CONTROL_PLANE_STACK]["IncidentsTable"]
    begin = time.time()
    evidence = _under_traffic(stage, url=url, rate=rate, table=table)
    fleet = FleetFacts(
        name=FLEET,
        nodes=options.nodes,
        clients=options.clients,
        notice_seconds=options.notice_seconds,
        deploy_seconds=deployed.bootstrap_seconds + deployed.deploy_seconds,
        ready_seconds=ready_seconds,
        tokens_per_second=rate,
    )
    return Outcome(
        run=Run(
            started_at=started_at,
            finished_at=datetime.now(UTC),
            engine=engine,
            fleet=fleet,
            evidence=evidence,
            versions=versions(),
            machine={"system": platform.platform(), "cpus": os.cpu_count()},
        ),
        story=_story(stage, evidence, title=_title(engine, evidence, options.nodes), begin=begin),
    )


def _under_traffic(stage: Stage, *, url: str, rate: float, table: str) -> Evidence:
    """Send traffic from before the first notice until after the last recovery."""
    options, progress = stage.options, stage.progress
    progress.phase(f"traffic: {options.clients} clients; one request alone gets {rate:.0f} tokens/s")
    traffic = Traffic(
        base_url=f"{url}/v1", model=engines.SERVED_MODEL_NAME, clients=options.clients, rate=rate
    )
    stage.watch.traffic_counts = traffic.counts
    traffic.start()
    drill = Drill(
        control=stage.aws.control,
        watch=stage.watch,
        record=IncidentRecord(stage.aws.client("dynamodb"), table),
        traffic=traffic,
        progress=progress,
        desired=options.nodes,
        notice_seconds=options.notice_seconds,
    )
    bare_start = _time_bare_start(options, progress)
    interruptions = _interrupt(options, progress, drill)
    progress.phase("letting the last requests finish")
    traffic.stop()
    interruptions[-1] = drill.with_final_gap(interruptions[-1], end=time.time())
    return Evidence(
        engine=options.engine,
        engine_bare_start_seconds=bare_start,
        interruptions_asked=options.interruptions,
        interruptions=interruptions,
        records=traffic.records(),
    )


def _story(stage: Stage, evidence: Evidence, *, title: str, begin: float) -> Story:
    return Story(
        title=title,
        begin=begin,
        end=time.time(),
        desired=stage.options.nodes,
        nodes=node_lives(stage.watch.entries(), evidence.interruptions),
        capacity=stage.watch.capacity(),
        records=evidence.records,
        interruptions=evidence.interruptions,
    )


def await_fleet(watch: FleetWatch, *, nodes: int, out: Path) -> float:
    """Wait until all nodes are healthy; return the seconds. Raises FleetNotReadyError."""
    began = time.monotonic()
    if not wait_until(lambda: len(watch.healthy()) >= nodes, seconds=FLEET_READY_SECONDS):
        raise FleetNotReadyError(
            f"only {len(watch.healthy())} of {nodes} nodes were ready"
            f" after {FLEET_READY_SECONDS:.0f} s; their logs are in {out / 'local-aws' / 'nodes'}"
        )
    return time.monotonic() - began


def _time_bare_start(options: Options, progress: Progress) -> float:
    time.sleep(CALM_SECONDS)
    progress.phase("timing the engine's bare start under the same traffic")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log_path = options.out / "local-aws" / "bare-engine.log"
    with engines.bare_engine(
        options.engine,
        host="127.0.0.1",
        port=port,
        log_path=log_path,
        timeout_seconds=FLEET_READY_SECONDS,
    ) as engine:
        seconds = engine.start_seconds
    progress.step(f"a bare engine takes {seconds:.1f} s to its first completion")
    return seconds


def _interrupt(options: Options, progress: Progress, drill: Drill) -> list[Interruption]:
    interruptions: list[Interruption] = []
    for number in range(1, options.interruptions + 1):
        time.sleep(CALM_SECONDS)
        progress.phase(f"interruption {number} of {options.interruptions}")
        if interruptions:
            interruptions[-1] = drill.with_final_gap(interruptions[-1], end=time.time())
        interruptions.append(drill.interrupt_one())
    time.sleep(CALM_SECONDS)
    return interruptions


def engine_version(url: str) -> str:
    """Ask the engine behind the load balancer for its version."""
    with urllib.request.urlopen(f"{url}/version", timeout=10) as answer:  # noqa: S310 - our own load balancer
        return str(json.load(answer)["version"])


def _title(engine: EngineIdentity, evidence: Evidence, nodes: int) -> str:
    lost = sum(not record.complete for record in evidence.records)
    taken = len(evidence.interruptions)
    return (
        f"{nodes} nodes, {taken} spot interruption{'' if taken == 1 else 's'}:"
        f" {lost} of {len(evidence.records)} requests lost. {engine.name} {engine.version}"
    )


def versions() -> dict[str, str]:
    """Return the versions of what the run stands on."""
    names = ("openai", "moto", "boto3", "awslambdaric", "aws-lambda-powertools", "aws-cdk-lib")
    cdk = subprocess.run([str(CDK), "--version"], capture_output=True, text=True, check=False).stdout.split()
    return {
        "python": platform.python_version(),
        "cdk_cli": cdk[0] if cdk else "unknown",
        **{name: metadata.version(name) for name in names},
    }
