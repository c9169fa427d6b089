"""How a target's health follows from its checks: pure functions, no clock and no network.

States and reasons: Elastic Load Balancing user guide for Application Load Balancers, "Target health status".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class TargetState(StrEnum):
    """The states that DescribeTargetHealth reports."""

    INITIAL = "initial"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    UNUSED = "unused"


class Reason(StrEnum):
    """Why a target is not healthy."""

    REGISTERING = "Elb.RegistrationInProgress"
    INITIAL_CHECKS = "Elb.InitialHealthChecking"
    CODE_MISMATCH = "Target.ResponseCodeMismatch"
    TIMEOUT = "Target.Timeout"
    FAILED_CHECKS = "Target.FailedHealthChecks"
    NOT_REGISTERED = "Target.NotRegistered"
    NOT_IN_USE = "Target.NotInUse"
    DEREGISTERING = "Target.DeregistrationInProgress"
    INVALID_STATE = "Target.InvalidState"


@dataclass(frozen=True)
class HealthCheck:
    """A target group's check. `port` None means the target's own traffic port; times are seconds."""

    path: str
    port: int | None
    interval: float
    timeout: float
    healthy_threshold: int
    unhealthy_threshold: int
    matcher: str

    def accepts(self, status: int) -> bool:
        """Say whether an HTTP status passes; the matcher holds codes and ranges, "200,202" or "200-299"."""
        for part in self.matcher.split(","):
            low, _, high = part.strip().partition("-")
            if int(low) <= status <= int(high or low):
                return True
        return False


@dataclass(frozen=True)
class CheckResult:
    """One check's end; `reason` and `description` say why it failed."""

    passed: bool
    reason: Reason | None = None
    description: str | None = None


@dataclass(frozen=True)
class Health:
    """A target's state with the consecutive results that lead to the next one."""

    state: TargetState
    reason: Reason | None = None
    description: str | None = None
    passes: int = 0
    failures: int = 0


REGISTERED = Health(TargetState.INITIAL, Reason.REGISTERING, "Target registration is in progress")


def after_check(health: Health, result: CheckResult, check: HealthCheck) -> Health:
    """Return a target's health after one more check.

    The first check that an initial target passes makes it healthy, whatever the threshold is; only an
    unhealthy target has to pass as many in a row as the threshold says. A draining or unused target is not
    checked.
    """
    if health.state in (TargetState.DRAINING, TargetState.UNUSED):
        return health
    if result.passed:
        needed = check.healthy_threshold if health.state is TargetState.UNHEALTHY else 1
        if health.passes + 1 >= needed:
            return Health(TargetState.HEALTHY, passes=health.passes + 1)
        return replace(health, passes=health.passes + 1, failures=0)
    failures = health.failures + 1
    if health.state is TargetState.UNHEALTHY or failures >= check.unhealthy_threshold:
        return Health(TargetState.UNHEALTHY, result.reason, result.description, failures=failures)
    if health.state is TargetState.INITIAL:
        return Health(
            TargetState.INITIAL,
            Reason.INITIAL_CHECKS,
            "Initial health checks in progress",
            failures=failures,
        )
    return replace(health, passes=0, failures=failures)
