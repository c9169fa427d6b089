"""What an endurance run says, check by check, and its report. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bench.endurance.flatness import MEGABYTE, Sample, Trait, Trend
from bench.endurance.options import Options
from bench.endurance.rounds import APART
from local_aws.demo.answers import RequestRecord
from local_aws.demo.checks import (
    Check,
    CheckResult,
    drained_in_time,
    every_step,
    kept,
    no_request_lost,
    nothing_cut,
    whole_again,
)
from local_aws.demo.interruptions import Interruption, as_json_value
from local_aws.demo.request_numbers import spread, summarize

WINDOW_SECONDS = 10
# Of the asked rate, in every window: a replacement's boot takes its share of the processor.
STEADY_SHARE = 0.5


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run, measured."""

    options: Options
    started_at: datetime
    finished_at: datetime
    engine: Mapping[str, str]
    records: Sequence[RequestRecord]
    interruptions: Sequence[Interruption]
    samples: Sequence[Sample]
    trends: Sequence[Trend]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]


def check_all(run: Run) -> tuple[Check, ...]:
    """Check the whole promise."""
    return (
        no_request_lost(run.records),
        _enough(run),
        _steady(run),
        every_step(run.interruptions, asked=run.options.interruptions, apart=APART),
        _in_flight(run.interruptions),
        nothing_cut(run.interruptions),
        drained_in_time(run.interruptions),
        whole_again(run.interruptions),
        *(_flat(run, trait) for trait in Trait),
    )


def least_starts(records: Sequence[RequestRecord], *, begin: float, end: float) -> int | None:
    """Return the fewest requests that began in any whole window of ten seconds; None without a window."""
    windows = int((end - begin) // WINDOW_SECONDS)
    if windows < 1:
        return None
    starts = Counter(int((record.started_at - begin) // WINDOW_SECONDS) for record in records)
    return min(starts[window] for window in range(windows))


def _enough(run: Run) -> Check:
    seen, wanted = len(run.records), run.options.requests
    says = f"{seen:,} requests, of {wanted:,} wanted"
    return Check(
        "as many requests as wanted", CheckResult.PASSED if seen >= wanted else CheckResult.FAILED, says
    )


def _steady(run: Run) -> Check:
    name, rate = "the traffic was steady", run.options.profile.requests_per_second
    notices = [each.noticed_at.timestamp() for each in run.interruptions]
    least = least_starts(run.records, begin=min(notices), end=max(notices)) if notices else None
    if least is None:
        return Check(name, CheckResult.NOT_JUDGED, f"less than {WINDOW_SECONDS} s between the notices")
    # Clients that rest between answers ask as fast as they are answered.
    wanted = 1.0 if rate is None else STEADY_SHARE * rate * WINDOW_SECONDS
    says = f"{least} or more requests began in each {WINDOW_SECONDS} s between the first and the last notice"
    return Check(name, CheckResult.PASSED if least >= wanted else CheckResult.FAILED, says)


def _in_flight(interruptions: Sequence[Interruption]) -> Check:
    total = sum(each.in_flight_at_notice or 0 for each in interruptions)
    says = f"{total} requests in flight on the nodes that left, when their drains began"
    return Check("requests were in flight", CheckResult.PASSED if total else CheckResult.FAILED, says)


def _flat(run: Run, trait: Trait) -> Check:
    name = f"{trait.value} flat"
    mine = [trend for trend in run.trends if trend.trait is trait]
    growing = [describe(trend) for trend in mine if trend.grows]
    if growing:
        return Check(name, CheckResult.FAILED, "; ".join(growing))
    judged = [trend for trend in mine if trend.judged]
    if not judged:
        return Check(name, CheckResult.NOT_JUDGED, "the run was too short to tell growth from a beginning")
    worst = max(judged, key=lambda trend: _rise(trend) / trend.allowed)
    return Check(name, CheckResult.PASSED, f"{len(judged)} judged; the most: {describe(worst)}")


def _rise(trend: Trend) -> float:
    assert trend.first is not None
    assert trend.last is not None
    return trend.last - trend.first


def figure(trait: Trait, value: float) -> str:
    """Return a figure in words."""
    return f"{value / MEGABYTE:.1f} MB" if trait is Trait.MEMORY else f"{value:g}"


def describe(trend: Trend) -> str:
    """Return a trend in one clause."""
    if trend.first is None or trend.last is None:
        return f"{trend.who}: too few samples"
    first, last = figure(trend.trait, trend.first), figure(trend.trait, trend.last)
    return f"{trend.who}: {first} -> {last} (at most +{figure(trend.trait, trend.allowed)})"


def report(run: Run) -> dict[str, Any]:
    """Return the run as JSON values."""
    checks = check_all(run)
    options, seconds = run.options, (run.finished_at - run.started_at).total_seconds()
    notices = [each.noticed_at.timestamp() for each in run.interruptions]
    whole = {
        "passed": kept(checks),
        "full": options.full,
        "command": f"make endurance ENGINE={options.engine} INTERRUPTIONS={options.interruptions}"
        f" REQUESTS={options.requests}",
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "seconds": seconds,
        "engine": dict(run.engine),
        "fleet": {"nodes": options.profile.nodes, "notice_seconds": options.profile.notice_seconds},
        "interruptions": _interruptions(run.interruptions),
        "seconds_from_first_to_last_notice": max(notices) - min(notices) if notices else 0.0,
        "requests": summarize(run.records, run.interruptions),
        "growth": [_trend_row(trend) for trend in run.trends],
        "checks": [{"name": c.name, "result": c.result.value, "says": c.says} for c in checks],
        "versions": run.versions,
        "machine": run.machine,
    }
    values: dict[str, Any] = as_json_value(whole)
    return values


def _interruptions(interruptions: Sequence[Interruption]) -> dict[str, Any]:
    return {
        "count": len(interruptions),
        "recovery_seconds": spread([e.recovery_seconds for e in interruptions if e.recovery_seconds]),
        "capacity_gap_seconds": spread(
            [e.capacity_gap_seconds for e in interruptions if e.capacity_gap_seconds is not None]
        ),
        "drain_seconds": spread(
            [
                (e.drained_at - e.drain_started_at).total_seconds()
                for e in interruptions
                if e.drained_at and e.drain_started_at
            ]
        ),
        "in_flight_when_drains_began": sum(e.in_flight_at_notice or 0 for e in interruptions),
        "cut_requests": sum(e.cut_requests or 0 for e in interruptions),
    }


def _trend_row(trend: Trend) -> dict[str, Any]:
    scale = MEGABYTE if trend.trait is Trait.MEMORY else 1
    return {
        "who": trend.who,
        "what": "memory_megabytes" if trend.trait is Trait.MEMORY else trend.trait.value,
        "first_quarter": None if trend.first is None else trend.first / scale,
        "last_quarter": None if trend.last is None else trend.last / scale,
        "allowed_rise": trend.allowed / scale,
        "grows": trend.grows,
    }
