"""Who gets requests, and under which port a target is registered: Elastic Load Balancing's rules."""

from __future__ import annotations

import time

import pytest

from local_aws.load_balancing.target_health import CheckResult, HealthCheck, TargetState
from local_aws.load_balancing.targets import GroupSettings, Targets
from local_aws.world import Timeline

ARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/chat/0123456789abcdef"
CHECK = HealthCheck("/", None, 5, 3, 2, 2, "200")


@pytest.fixture
def targets() -> Targets:
    """A group on port 8000 with two targets that nobody has checked yet."""
    targets = Targets(Timeline())
    targets.configure(
        GroupSettings(
            arn=ARN,
            name="chat",
            port=8000,
            check=CHECK,
            deregistration_delay=60,
            least_outstanding=True,
            in_use=True,
        )
    )
    for target_id in ("i-1", "i-2"):
        targets.register(ARN, target_id, port=None, address="10.0.0.1")
    return targets


def check(targets: Targets, **passed: bool) -> None:
    """Let checks pass or fail, twice each."""
    for _ in range(2):
        for target in targets.registered(ARN):
            targets.checked(target, CheckResult(passed[target.target_id.replace("-", "")]), CHECK)


def chosen(targets: Targets) -> set[str]:
    leases = [targets.acquire([ARN]) for _ in range(6)]
    return {lease.target.target_id for lease in leases if lease}


def test_only_healthy_targets_get_requests_while_there_are_any(targets: Targets) -> None:
    check(targets, i1=True, i2=False)
    assert chosen(targets) == {"i-1"}


def test_with_none_healthy_all_that_are_registered_get_requests(targets: Targets) -> None:
    check(targets, i1=False, i2=False)
    assert chosen(targets) == {"i-1", "i-2"}
    targets.deregister(ARN, "i-1", port=None)
    assert chosen(targets) == {"i-2"}, "one that drains is not registered"


def test_a_target_that_was_registered_again_gets_requests_before_its_first_check(targets: Targets) -> None:
    check(targets, i1=False, i2=False)
    for target_id in ("i-1", "i-2"):
        targets.deregister(ARN, target_id, port=None)
    assert chosen(targets) == set()
    targets.register(ARN, "i-2", port=None, address="10.0.0.1")
    assert chosen(targets) == {"i-2"}


def test_the_id_alone_deregisters_the_groups_own_port_and_no_other(targets: Targets) -> None:
    targets.register(ARN, "i-1", port=9000, address="10.0.0.1")
    targets.deregister(ARN, "i-1", port=None)
    states = {t.port: t.state for t in targets.registered(ARN) if t.target_id == "i-1"}
    assert states == {8000: TargetState.DRAINING, 9000: TargetState.INITIAL}
    targets.deregister(ARN, "i-1", port=9000)
    assert {t.state for t in targets.registered(ARN) if t.target_id == "i-1"} == {TargetState.DRAINING}


def test_a_target_that_was_registered_again_is_not_cut_off_by_its_earlier_drain(targets: Targets) -> None:
    targets.deregister(ARN, "i-1", port=None)
    targets.register(ARN, "i-1", port=None, address="10.0.0.1")
    assert targets.end_draining(time.monotonic() + 120) == []
    assert {t.target_id for t in targets.registered(ARN)} == {"i-1", "i-2"}


def test_a_deleted_group_has_no_targets(targets: Targets) -> None:
    targets.forget_group(ARN)
    assert targets.states_of("i-1") == {}
    assert targets.registered(ARN) == []


def test_a_group_is_told_of_a_members_health_in_its_own_target_groups_alone(targets: Targets) -> None:
    check(targets, i1=False, i2=True)
    assert targets.is_unhealthy("i-1", [ARN])
    assert not targets.is_unhealthy("i-1", [])
    assert not targets.is_unhealthy("i-2", [ARN])
