"""Whether the run kept the promise, check by check, in words an operator reads once. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import StrEnum

from local_aws.demo.answers import RequestKind, RequestRecord
from local_aws.demo.boots import PHASE_NAMES
from local_aws.demo.interruptions import Interruption
from local_aws.world import EngineKind

ACTION_SECONDS = 2.0
RECOVERY_RATIO = 1.25
READINESS_RATIO = 1.10
# The incident's parts come from two clocks' readings of the same moments, rounded to milliseconds.
PARTS_SECONDS = 1.0


class CheckResult(StrEnum):
    """NOT_JUDGED: the run says nothing about it; the check's text says why."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_JUDGED = "not_judged"


@dataclass(frozen=True, slots=True)
class Check:
    """One part of the promise, and what the run says about it."""

    name: str
    result: CheckResult
    says: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a run has to show."""

    engine: EngineKind
    engine_bare_start_seconds: float
    interruptions_asked: int
    interruptions: Sequence[Interruption]
    records: Sequence[RequestRecord]


def check_all(evidence: Evidence) -> tuple[Check, ...]:
    """Check the whole promise."""
    return (
        no_request_lost(evidence.records),
        _traffic(evidence.records),
        every_step(evidence.interruptions, asked=evidence.interruptions_asked),
        _in_flight(evidence.interruptions),
        nothing_cut(evidence.interruptions),
        _actions(evidence.interruptions),
        drained_in_time(evidence.interruptions),
        _recovery(evidence),
        _readiness(evidence),
        _phases(evidence.interruptions),
        whole_again(evidence.interruptions),
    )


def kept(checks: Sequence[Check]) -> bool:
    """Tell whether no check failed."""
    return all(check.result is not CheckResult.FAILED for check in checks)


def _check(name: str, problems: Sequence[str], good: str) -> Check:
    if problems:
        return Check(name, CheckResult.FAILED, "; ".join(problems))
    return Check(name, CheckResult.PASSED, good)


def no_request_lost(records: Sequence[RequestRecord]) -> Check:
    """Check that there were requests, and that every one was answered whole."""
    lost = [record for record in records if not record.complete]
    reasons = list(dict.fromkeys(f"{r.judgement.outcome}: {r.judgement.reason}" for r in lost))
    problems = (
        [f"{len(lost)} of {len(records)} requests were lost ({'; '.join(reasons[:3])})"] if lost else []
    )
    if not records:
        problems = ["no request was made"]
    return _check("no request lost", problems, f"all {len(records)} requests were answered whole")


def _traffic(records: Sequence[RequestRecord]) -> Check:
    absent = [kind.value for kind in RequestKind if not any(r.kind is kind and r.complete for r in records)]
    problems = [f"no answer of kind {', '.join(absent)}"] if absent else []
    return _check("all kinds of requests", problems, "chat and completions, streamed and whole")


def every_step(interruptions: Sequence[Interruption], *, asked: int, apart: Container[str] = ()) -> Check:
    """Check that all interruptions took place and that nothing of them is missing but what is `apart`."""
    seen = len(interruptions)
    problems = [] if seen == asked else [f"{seen} of {asked} interruptions took place"]
    for each in interruptions:
        if missing := [name for name in each.missing_steps() if name not in apart]:
            problems.append(f"{each.instance_id} lacks {', '.join(missing)}")
    return _check("every step happened", problems, f"every step of every incident is on record ({seen})")


def _in_flight(interruptions: Sequence[Interruption]) -> Check:
    problems = [
        f"{each.instance_id} was idle when its drain began, so it proves nothing about running requests"
        if each.in_flight_at_notice == 0
        else f"nobody counted the requests on {each.instance_id}"
        for each in interruptions
        if not each.in_flight_at_notice
    ]
    total = sum(each.in_flight_at_notice or 0 for each in interruptions)
    return _check("requests were in flight", problems, f"{total} requests in flight on the nodes that left")


def nothing_cut(interruptions: Sequence[Interruption]) -> Check:
    """Check that no drain ended a running request."""
    problems: list[str] = []
    for each in interruptions:
        if each.cut_requests is None:
            problems.append(f"nobody counted what {each.instance_id} cut")
        elif each.cut_requests:
            problems.append(f"{each.instance_id} cut {each.cut_requests}")
    return _check("drains cut nothing", problems, "every running request finished on its node")


def _actions(interruptions: Sequence[Interruption]) -> Check:
    late: list[str] = []
    slowest = 0.0
    for each in interruptions:
        for action, seconds in each.action_seconds().items():
            if seconds is None:
                late.append(f"{each.instance_id}: {action} was not requested")
                continue
            slowest = max(slowest, seconds)
            if seconds > ACTION_SECONDS:
                late.append(f"{each.instance_id}: {action} was requested after {seconds:.1f} s")
    return _check(
        f"actions within {ACTION_SECONDS:g} s of the notice", late, f"the slowest after {slowest:.2f} s"
    )


def drained_in_time(interruptions: Sequence[Interruption]) -> Check:
    """Check that every drain was over before its deadline."""
    problems: list[str] = []
    spare: list[float] = []
    for each in interruptions:
        if each.drained_at is None:
            problems.append(f"{each.instance_id} did not finish its drain")
            continue
        left = (each.deadline - each.drained_at).total_seconds()
        spare.append(left)
        if left < 0:
            problems.append(f"{each.instance_id} was drained {-left:.1f} s after its deadline")
    return _check("drained before the deadline", problems, f"with {min(spare, default=0):.0f} s to spare")


def _recovery(evidence: Evidence) -> Check:
    name = f"recovery within {RECOVERY_RATIO:g} x the engine's bare start"
    bare = evidence.engine_bare_start_seconds
    says: list[str] = []
    problems: list[str] = []
    for each in evidence.interruptions:
        if each.recovery_seconds is None or each.engine_start_seconds is None:
            return Check(name, CheckResult.FAILED, f"{each.instance_id} has no replacement in service")
        # The stricter one: a bare start competes with one more busy engine than the replacement's.
        baseline = min(bare, each.engine_start_seconds)
        ratio = each.recovery_seconds / baseline
        says.append(f"{each.recovery_seconds:.1f} s, {ratio:.2f} x {baseline:.1f} s")
        if ratio > RECOVERY_RATIO:
            problems.append(f"{each.instance_id}'s recovery took {says[-1]}")
    told = f"{'; '.join(says)} (bare start {bare:.1f} s)"
    if evidence.engine == "emulated":
        return Check(name, CheckResult.NOT_JUDGED, f"an emulated engine's start is made up: {told}")
    return _check(name, problems, told)


def _readiness(evidence: Evidence) -> Check:
    name = f"ready within {READINESS_RATIO:.2f} x the engine's bare start"
    bare = evidence.engine_bare_start_seconds
    says: list[str] = []
    problems: list[str] = []
    for each in evidence.interruptions:
        ready = None if each.boot is None else each.boot.ready_seconds
        if ready is None or each.engine_start_seconds is None:
            return Check(name, CheckResult.FAILED, f"{each.instance_id} has no replacement that became ready")
        # As for the recovery: both took place beside other engines, the replacement's own start beside fewer.
        # Against its own start this judges what comes around the engine; what an agent costs the engine is
        # for `make bench`, whose pairs of starts are alike.
        baseline = min(bare, each.engine_start_seconds)
        ratio = ready / baseline
        says.append(f"{ready:.1f} s after the machine's start, {ratio:.2f} x {baseline:.1f} s")
        if ratio > READINESS_RATIO:
            problems.append(f"{each.instance_id}'s replacement was ready {says[-1]}")
    told = f"{'; '.join(says)} (bare start {bare:.1f} s)"
    if evidence.engine == "emulated":
        return Check(name, CheckResult.NOT_JUDGED, f"an emulated engine's start is made up: {told}")
    return _check(name, problems, told)


def _phases(interruptions: Sequence[Interruption]) -> Check:
    problems: list[str] = []
    for each in interruptions:
        if each.boot is None:
            problems.append(f"{each.instance_id}'s replacement told nothing of its boot")
        elif missing := each.boot.missing_phases():
            problems.append(f"the boot of {each.instance_id}'s replacement lacks {', '.join(missing)}")
        parts, whole = each.recovery_parts, each.recovery_seconds
        if parts is not None and whole is not None and abs(sum(parts.values()) - whole) > PARTS_SECONDS:
            problems.append(
                f"{each.instance_id}'s recovery of {whole:.1f} s has parts of {sum(parts.values()):.1f} s"
            )
    return _check(
        "every phase of the boot shows", problems, f"{', '.join(PHASE_NAMES)}; the recovery's parts add up"
    )


def whole_again(interruptions: Sequence[Interruption]) -> Check:
    """Check that the fleet was whole again after every interruption."""
    problems = [
        f"the fleet was still short of a node when the watching of {each.instance_id} ended"
        for each in interruptions
        if not each.capacity_restored
    ]
    longest = max((each.capacity_gap_seconds or 0.0 for each in interruptions), default=0.0)
    return _check("the fleet is whole again", problems, f"the longest capacity gap was {longest:.1f} s")
