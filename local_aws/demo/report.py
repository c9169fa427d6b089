"""The report: everything the run measured and what it says, as one JSON object. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local_aws.demo.checks import Check, Evidence, check_all, kept
from local_aws.demo.interruptions import as_json_value
from local_aws.demo.request_numbers import summarize

SCHEMA_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class EngineIdentity:
    """What the nodes ran. An emulated engine says so in its name."""

    name: str
    version: str
    model: str


@dataclass(frozen=True, kw_only=True)
class FleetFacts:
    """The fleet and what is around it."""

    name: str
    nodes: int
    clients: int
    notice_seconds: int
    deploy_seconds: float
    ready_seconds: float
    """From the end of the deployment until every node was healthy."""
    tokens_per_second: float
    """One request's generation rate on an otherwise idle engine."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run of the demo, measured."""

    started_at: datetime
    finished_at: datetime
    engine: EngineIdentity
    fleet: FleetFacts
    evidence: Evidence
    versions: Mapping[str, str]
    machine: Mapping[str, Any]


def verdict(checks: Sequence[Check]) -> str:
    """Say in one sentence how the run ended."""
    failed = [f"{check.name}: {check.says}" for check in checks if not kept([check])]
    if failed:
        return f"FAILED. {'. '.join(failed)}."
    return "PASSED. Nodes were taken away and clients noticed nothing."


def report(run: Run) -> dict[str, Any]:
    """Return the whole report as JSON values."""
    checks = check_all(run.evidence)
    evidence, fleet = run.evidence, run.fleet
    whole = {
        "schema_version": SCHEMA_VERSION,
        "passed": kept(checks),
        "verdict": verdict(checks),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "engine": {
            "kind": evidence.engine,
            "name": run.engine.name,
            "version": run.engine.version,
            "model": run.engine.model,
        },
        "fleet": {
            "name": fleet.name,
            "nodes": fleet.nodes,
            "clients": fleet.clients,
            "deploy_seconds": fleet.deploy_seconds,
            "ready_seconds": fleet.ready_seconds,
            "tokens_per_second": fleet.tokens_per_second,
        },
        "notice_seconds": fleet.notice_seconds,
        "engine_bare_start_seconds": evidence.engine_bare_start_seconds,
        "requests": summarize(evidence.records, evidence.interruptions),
        "interruptions": [each.as_json() for each in evidence.interruptions],
        "checks": [{"name": c.name, "result": c.result.value, "says": c.says} for c in checks],
        "versions": run.versions,
        "machine": run.machine,
    }
    values: dict[str, Any] = as_json_value(whole)
    return values
