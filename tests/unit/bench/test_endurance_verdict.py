"""An endurance run's verdict: each thing that may go wrong fails the check that is named for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bench.endurance.flatness import Trait, Trend
from bench.endurance.options import PROFILES, Options, parse
from bench.endurance.verdict import Run, check_all, least_starts, report
from local_aws.demo.answers import Attempt, Judgement, RequestKind, RequestOutcome, RequestRecord
from local_aws.demo.checks import CheckResult
from local_aws.demo.interruptions import Interruption

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PER_SECOND = 60


def seconds(after: float) -> datetime:
    return BEGIN + timedelta(seconds=after)


def interruption(number: int) -> Interruption:
    at = 10.0 * number
    return Interruption(
        instance_id=f"i-{number}",
        noticed_at=seconds(at),
        deadline=seconds(at + 30),
        deregistered_at=seconds(at + 0.1),
        drain_requested_at=seconds(at + 0.2),
        drain_started_at=seconds(at + 0.3),
        drained_at=seconds(at + 18),
        in_flight_at_notice=2,
        cut_requests=0,
        replacement_requested_at=seconds(at + 0.2),
        replacement_instance_id=f"i-{number + 3}",
        replacement_in_service_at=seconds(at + 5),
        recovery_seconds=5.0,
        recovery_parts={"launch": 5.0},
        capacity_gap_seconds=5.0,
        capacity_restored=True,
    )


def record(number: int) -> RequestRecord:
    at = BEGIN.timestamp() + number / PER_SECOND
    return RequestRecord(
        client=0,
        number=number,
        kind=list(RequestKind)[number % 4],
        max_tokens=16,
        started_at=at,
        ended_at=at + 0.2,
        judgement=Judgement(RequestOutcome.COMPLETE),
        attempts=(Attempt(at=at, status=200),),
    )


def a_run(**changes: Any) -> Run:
    options = Options(
        engine="emulated", profile=PROFILES["emulated"], interruptions=4, requests=3000, out=Path("out")
    )
    good: dict[str, Any] = {
        "options": options,
        "started_at": BEGIN,
        "finished_at": seconds(60),
        "engine": {"kind": "emulated", "name": "EMULATED", "version": "1"},
        "records": [record(number) for number in range(50 * PER_SECOND)],
        "interruptions": [interruption(number) for number in range(4)],
        "samples": [],
        "trends": [Trend("local AWS", trait, 100e6, 101e6, 6e6) for trait in Trait],
        "versions": {},
        "machine": {},
    }
    return Run(**{**good, **changes})


def failed(run: Run) -> list[str]:
    return [check.name for check in check_all(run) if check.result is CheckResult.FAILED]


def test_good_run_passes_every_check_and_says_so() -> None:
    assert {check.result for check in check_all(a_run())} == {CheckResult.PASSED}
    made = report(a_run())
    assert made["passed"] is True
    assert made["requests"]["total"] == 3000
    assert made["interruptions"]["recovery_seconds"]["p50"] == 5.0
    assert made["command"] == "make endurance ENGINE=emulated INTERRUPTIONS=4 REQUESTS=3000"


def test_one_lost_request_fails_the_run() -> None:
    records = list(a_run().records)
    records[7] = replace(records[7], judgement=Judgement(RequestOutcome.CUT_SHORT, "no [DONE]"))
    assert failed(a_run(records=records)) == ["no request lost"]
    assert report(a_run(records=records))["passed"] is False


def test_too_few_requests_fail_the_run() -> None:
    assert failed(a_run(records=a_run().records[:-1])) == ["as many requests as wanted"]


def test_traffic_that_paused_fails_the_run() -> None:
    moved = [
        replace(r, started_at=r.started_at + 8.0 if r.number >= 600 else r.started_at)
        for r in a_run().records
    ]
    assert failed(a_run(records=moved)) == ["the traffic was steady"]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"drained_at": None}, "every step happened"),
        ({"cut_requests": 1}, "drains cut nothing"),
        ({"drained_at": seconds(100)}, "drained before the deadline"),
        ({"capacity_restored": False}, "the fleet is whole again"),
    ],
)
def test_one_bad_interruption_fails_the_run(change: dict[str, Any], name: str) -> None:
    interruptions = [replace(interruption(0), **change), *map(interruption, range(1, 4))]
    assert name in failed(a_run(interruptions=interruptions))


def test_interruption_that_did_not_take_place_fails_the_run() -> None:
    assert failed(a_run(interruptions=[interruption(n) for n in range(3)])) == ["every step happened"]


def test_drains_of_idle_nodes_prove_nothing() -> None:
    idle = [replace(interruption(n), in_flight_at_notice=0) for n in range(4)]
    assert failed(a_run(interruptions=idle)) == ["requests were in flight"]


@pytest.mark.parametrize("trait", Trait)
def test_growth_fails_the_run_by_its_name(trait: Trait) -> None:
    grown = [Trend("local AWS", each, 100.0, 109.0 if each is trait else 100.0, 4.0) for each in Trait]
    assert failed(a_run(trends=grown)) == [f"{trait.value} flat"]


def test_short_run_does_not_claim_that_anything_is_flat() -> None:
    unknown = [Trend("local AWS", trait, None, None, 0.0) for trait in Trait]
    checks = {check.name: check.result for check in check_all(a_run(trends=unknown))}
    assert {checks[f"{trait.value} flat"] for trait in Trait} == {CheckResult.NOT_JUDGED}


def test_windows_are_counted_from_the_first_notice_and_whole() -> None:
    records = [record(number) for number in range(30 * PER_SECOND)]
    begin = BEGIN.timestamp()
    assert least_starts(records, begin=begin, end=begin + 29.9) == 600
    assert least_starts(records, begin=begin, end=begin + 40) == 0
    assert least_starts(records, begin=begin, end=begin + 9) is None


def test_only_a_run_of_full_length_is_kept() -> None:
    assert parse([]).full
    assert parse(["--engine", "real"]).interruptions == PROFILES["real"].interruptions
    assert not parse(["--interruptions", "2"]).full
    with pytest.raises(SystemExit):
        parse(["--requests", "0"])
