"""A run passes only when every part of the promise was kept, and says in words which was not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local_aws.demo.answers import Attempt, Judgement, RequestKind, RequestOutcome, RequestRecord
from local_aws.demo.boots import PHASE_NAMES
from local_aws.demo.checks import Check, CheckResult, Evidence, check_all, kept
from local_aws.demo.interruptions import Interruption
from local_aws.demo.report import EngineIdentity, FleetFacts, Run, report
from tests.unit.demo.boot_stories import boot_of

NOTICE = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOTICE + timedelta(seconds=seconds)


WHOLE = Interruption(
    instance_id="i-leaving",
    noticed_at=NOTICE,
    deadline=after(120),
    deregistered_at=after(0.5),
    drain_requested_at=after(0.7),
    drain_started_at=after(1.0),
    drained_at=after(18),
    in_flight_at_notice=2,
    cut_requests=0,
    replacement_requested_at=after(0.6),
    replacement_instance_id="i-coming",
    replacement_in_service_at=after(30),
    recovery_seconds=30.0,
    capacity_gap_seconds=38.0,
    capacity_restored=True,
    recovery_parts={"launch": 1.0, "machine": 0.0, "engine": 27.0, "in_service": 2.0},
    boot=boot_of(engine=(2.0, 24.0), warm_up=(26.0, 1.0)),
)


def request(kind: RequestKind, number: int = 0, **changes: Any) -> RequestRecord:
    begin = NOTICE.timestamp() - 40 + 20 * number
    record = RequestRecord(
        client=0,
        number=number,
        kind=kind,
        max_tokens=100,
        started_at=begin,
        ended_at=begin + 5,
        judgement=Judgement(RequestOutcome.COMPLETE),
        attempts=(Attempt(begin, 200),),
        first_token_at=begin + 0.1 if kind.streams else None,
    )
    return replace(record, **changes)


EVIDENCE = Evidence(
    engine="real",
    engine_bare_start_seconds=26.0,
    interruptions_asked=1,
    interruptions=[WHOLE],
    records=[request(kind, number) for number, kind in enumerate(RequestKind)],
)


def failed(evidence: Evidence) -> list[Check]:
    return [check for check in check_all(evidence) if check.result is CheckResult.FAILED]


def with_interruption(**changes: Any) -> Evidence:
    return replace(EVIDENCE, interruptions=[replace(WHOLE, **changes)])


def test_whole_run_passes_every_check() -> None:
    checks = check_all(EVIDENCE)
    assert {check.result for check in checks} == {CheckResult.PASSED}
    assert kept(checks)


@pytest.mark.parametrize("outcome", [outcome for outcome in RequestOutcome if outcome != "complete"])
def test_one_lost_request_fails_the_run(outcome: RequestOutcome) -> None:
    lost = request(RequestKind.CHAT, 9, judgement=Judgement(outcome, "it broke"))
    (check,) = failed(replace(EVIDENCE, records=[*EVIDENCE.records, lost]))
    assert check.name == "no request lost"
    assert "1 of 5 requests were lost" in check.says
    assert "it broke" in check.says


def test_run_without_requests_proves_nothing() -> None:
    assert [check.name for check in failed(replace(EVIDENCE, records=[]))][:2] == [
        "no request lost",
        "all kinds of requests",
    ]


def test_kind_of_request_that_never_came_fails_the_run() -> None:
    (check,) = failed(replace(EVIDENCE, records=EVIDENCE.records[1:]))
    assert "chat_stream" in check.says


@pytest.mark.parametrize(
    "field",
    [
        "deregistered_at",
        "drain_requested_at",
        "drain_started_at",
        "drained_at",
        "in_flight_at_notice",
        "cut_requests",
        "replacement_requested_at",
        "replacement_instance_id",
        "replacement_in_service_at",
        "recovery_seconds",
        "capacity_gap_seconds",
        "recovery_parts",
        "boot",
    ],
)
def test_missing_step_is_named(field: str) -> None:
    check = next(c for c in failed(with_interruption(**{field: None})) if c.name == "every step happened")
    assert f"i-leaving lacks {field}" in check.says


def test_interruption_that_did_not_take_place_fails_the_run() -> None:
    (check,) = failed(replace(EVIDENCE, interruptions_asked=2))
    assert check.says == "1 of 2 interruptions took place"


def test_idle_node_proves_nothing_about_running_requests() -> None:
    (check,) = failed(with_interruption(in_flight_at_notice=0))
    assert check.name == "requests were in flight"
    assert "i-leaving was idle" in check.says


def test_what_nobody_counted_is_no_success() -> None:
    unknown = failed(with_interruption(in_flight_at_notice=None, cut_requests=None))
    assert [check.says for check in unknown][1:] == [
        "nobody counted the requests on i-leaving",
        "nobody counted what i-leaving cut",
    ]


def test_cut_request_fails_the_run() -> None:
    (check,) = failed(with_interruption(cut_requests=1))
    assert check.says == "i-leaving cut 1"


@pytest.mark.parametrize(
    ("field", "action"),
    [
        ("deregistered_at", "deregistration"),
        ("drain_requested_at", "drain"),
        ("replacement_requested_at", "replacement"),
    ],
)
def test_late_action_is_named_with_its_delay(field: str, action: str) -> None:
    assert not failed(with_interruption(**{field: after(2.0)}))
    (check,) = failed(with_interruption(**{field: after(2.4)}))
    assert check.says == f"i-leaving: {action} was requested after 2.4 s"


def test_drain_after_the_deadline_fails_the_run() -> None:
    (check,) = failed(with_interruption(drained_at=after(121)))
    assert check.says == "i-leaving was drained 1.0 s after its deadline"


def test_recovery_slower_than_a_quarter_over_the_bare_start_fails_the_run() -> None:
    def slow(seconds: float) -> Evidence:
        return with_interruption(
            recovery_seconds=seconds,
            recovery_parts={"engine": seconds},
            boot=boot_of(engine=(1.0, 26.0), warm_up=(27.0, 1.0)),
        )

    assert not failed(slow(32.5))
    (check,) = failed(slow(32.6))
    assert "recovery took 32.6 s, 1.25 x 26.0 s" in check.says


def test_recovery_slower_than_a_quarter_over_its_own_engines_start_fails_the_run() -> None:
    own = {"boot": boot_of(engine=(1.0, 19.0), warm_up=(20.0, 1.0)), "recovery_parts": {"engine": 25.0}}
    assert not failed(with_interruption(recovery_seconds=25.0, **own))
    (check,) = failed(with_interruption(recovery_seconds=25.2, **own))
    assert "recovery took 25.2 s, 1.26 x 20.0 s" in check.says


def test_readiness_later_than_a_tenth_over_the_bare_start_fails_the_run() -> None:
    def ready_after(seconds: float) -> Evidence:
        boot = boot_of(engine=(seconds - 31.0, 30.0), warm_up=(seconds - 1.0, 1.0))
        return with_interruption(boot=boot)

    assert not failed(ready_after(28.6))
    (check,) = failed(ready_after(28.7))
    assert check.name == "ready within 1.10 x the engine's bare start"
    assert "ready 28.7 s after the machine's start, 1.10 x 26.0 s" in check.says


def test_readiness_later_than_a_tenth_over_its_own_engines_start_fails_the_run() -> None:
    boot = boot_of(engine=(2.2, 20.0), warm_up=(22.2, 1.0))
    (check,) = failed(with_interruption(boot=boot, recovery_seconds=25.0, recovery_parts={"engine": 25.0}))
    assert "ready 23.2 s after the machine's start, 1.10 x 21.0 s" in check.says


@pytest.mark.parametrize("phase", PHASE_NAMES)
def test_phase_that_does_not_show_fails_the_run_by_its_name(phase: str) -> None:
    checks = failed(with_interruption(boot=boot_of(**{phase: None})))
    check = next(check for check in checks if check.name == "every phase of the boot shows")
    assert check.says == f"the boot of i-leaving's replacement lacks {phase}"


def test_replacement_that_tells_nothing_of_its_boot_fails_the_run() -> None:
    assert "i-leaving's replacement told nothing of its boot" in [
        check.says for check in failed(with_interruption(boot=None))
    ]


def test_recovery_that_its_parts_do_not_explain_fails_the_run() -> None:
    (check,) = failed(with_interruption(recovery_parts={"launch": 1.0, "engine": 25.0}))
    assert check.says == "i-leaving's recovery of 30.0 s has parts of 26.0 s"


def test_recovery_of_an_emulated_engine_is_not_judged() -> None:
    slow = replace(
        with_interruption(recovery_seconds=90.0, recovery_parts={"engine": 90.0}), engine="emulated"
    )
    checks = check_all(slow)
    unjudged = [check.name for check in checks if check.result is CheckResult.NOT_JUDGED]
    assert unjudged == [
        "recovery within 1.25 x the engine's bare start",
        "ready within 1.10 x the engine's bare start",
    ]
    assert kept(checks)


def test_emulated_replacement_that_never_came_still_fails_the_run() -> None:
    absent = replace(with_interruption(recovery_seconds=None), engine="emulated")
    assert "recovery" in " ".join(check.name for check in failed(absent))


def test_fleet_that_stays_short_of_a_node_fails_the_run() -> None:
    (check,) = failed(with_interruption(capacity_restored=False))
    assert "still short of a node" in check.says


@pytest.fixture
def make_report() -> Callable[[Evidence], dict[str, Any]]:
    def make(evidence: Evidence) -> dict[str, Any]:
        return report(
            Run(
                started_at=after(-100),
                finished_at=after(100),
                engine=EngineIdentity(name="vLLM", version="0.32.0", model="tiny"),
                fleet=FleetFacts(
                    name="demo",
                    nodes=2,
                    clients=4,
                    notice_seconds=120,
                    deploy_seconds=9.0,
                    ready_seconds=30.0,
                    tokens_per_second=700.0,
                ),
                evidence=evidence,
                versions={"openai": "3.54.0"},
                machine={"cpus": 2},
            )
        )

    return make


def test_report_holds_every_promised_field(make_report: Callable[[Evidence], dict[str, Any]]) -> None:
    made = make_report(EVIDENCE)
    assert made["passed"] is True
    assert made["engine"] == {"kind": "real", "name": "vLLM", "version": "0.32.0", "model": "tiny"}
    assert made["notice_seconds"] == 120
    assert made["engine_bare_start_seconds"] == 26.0
    (interruption,) = made["interruptions"]
    assert interruption["noticed_at"] == "2026-11-23T12:00:00.000Z"
    assert interruption["drained_at"] == "2026-11-23T12:00:18.000Z"
    assert interruption["recovery_seconds"] == 30.0
    promised = (
        "instance_id noticed_at deregistered_at drain_started_at drained_at in_flight_at_notice cut_requests"
        " replacement_requested_at replacement_instance_id replacement_in_service_at recovery_seconds"
        " capacity_gap_seconds engine_start_seconds"
    )
    assert set(promised.split()) <= set(interruption)
    assert interruption["engine_start_seconds"] == 25.0
    assert interruption["boot"]["ready_seconds"] == 27.0
    assert [phase["name"] for phase in interruption["boot"]["phases"]] == list(PHASE_NAMES)


def test_report_counts_retries_and_says_what_was_retried(
    make_report: Callable[[Evidence], dict[str, Any]],
) -> None:
    retried = request(
        RequestKind.CHAT, 7, attempts=(Attempt(0, 503), Attempt(1, error="ReadError"), Attempt(2, 200))
    )
    requests = make_report(replace(EVIDENCE, records=[*EVIDENCE.records, retried]))["requests"]
    assert (requests["total"], requests["succeeded"], requests["failed"], requests["retried"]) == (5, 5, 0, 1)
    assert requests["attempts"] == 7
    assert requests["failed_attempts"] == {"HTTP 503": 1, "ReadError": 1}


def test_report_of_a_failed_run_says_what_was_lost(make_report: Callable[[Evidence], dict[str, Any]]) -> None:
    lost = request(RequestKind.CHAT, 9, judgement=Judgement(RequestOutcome.ABORTED, "the engine aborted it"))
    made = make_report(replace(EVIDENCE, records=[*EVIDENCE.records, lost]))
    assert made["passed"] is False
    assert made["verdict"].startswith("FAILED. no request lost: 1 of 5 requests were lost")
    (failure,) = made["requests"]["failures"]
    assert failure["outcome"] == "aborted"
    assert failure["reason"] == "the engine aborted it"


def test_latencies_are_told_apart_by_whether_an_incident_was_on(
    make_report: Callable[[Evidence], dict[str, Any]],
) -> None:
    requests = make_report(EVIDENCE)["requests"]
    # They begin 40 and 20 s before the notice, with it and 20 s after; recovery takes 30 s.
    assert requests["latency_seconds"]["calm"]["count"] == 2
    assert requests["latency_seconds"]["during_incidents"]["count"] == 2
    assert requests["time_to_first_token_seconds"]["calm"]["p50"] == 0.1
