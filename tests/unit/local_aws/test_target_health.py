"""Target health, step by step."""

from __future__ import annotations

from functools import reduce

import pytest

from local_aws.load_balancing.target_health import (
    REGISTERED,
    CheckResult,
    Health,
    HealthCheck,
    Reason,
    TargetState,
    after_check,
)

CHECK = HealthCheck(
    path="/healthz",
    port=8081,
    interval=5,
    timeout=3,
    healthy_threshold=2,
    unhealthy_threshold=2,
    matcher="200",
)
PASS = CheckResult(True)
FAIL = CheckResult(False, Reason.CODE_MISMATCH, "Health checks failed with these codes: [503]")


def state_after(start: Health, results: str) -> TargetState:
    steps = [PASS if each == "+" else FAIL for each in results]
    return reduce(lambda health, result: after_check(health, result, CHECK), steps, start).state


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("+", TargetState.HEALTHY),  # the first check that passes is enough
        ("-", TargetState.INITIAL),
        ("-+", TargetState.HEALTHY),
        ("--", TargetState.UNHEALTHY),
        ("--+", TargetState.UNHEALTHY),
        ("--+-+", TargetState.UNHEALTHY),
        ("--++", TargetState.HEALTHY),
        ("+-", TargetState.HEALTHY),
        ("+-+-", TargetState.HEALTHY),
        ("+--", TargetState.UNHEALTHY),
    ],
)
def test_thresholds_decide(results: str, state: TargetState) -> None:
    assert state_after(REGISTERED, results) is state


@pytest.mark.parametrize("state", [TargetState.DRAINING, TargetState.UNUSED])
def test_a_target_that_leaves_is_not_brought_back_by_a_check(state: TargetState) -> None:
    assert state_after(Health(state), "++--") is state


@pytest.mark.parametrize(
    ("matcher", "status", "passes"),
    [
        ("200", 200, True),
        ("200", 503, False),
        ("200-299", 204, True),
        ("200,202", 202, True),
        ("200,202", 201, False),
    ],
)
def test_matcher(matcher: str, status: int, passes: bool) -> None:
    check = HealthCheck("/", None, 5, 3, 2, 2, matcher)
    assert check.accepts(status) is passes
