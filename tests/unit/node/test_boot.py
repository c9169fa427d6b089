"""A boot in phases: what is kept of them, when it has stalled, and what it waited for."""

from __future__ import annotations

import time
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_node_bootstrap.node_agent.boot import (
    FETCHES,
    BootRecord,
    Phase,
    PhaseTime,
    begin_before_agent,
    critical_path,
    stall,
)

LIMITS = {Phase.WEIGHTS: 60.0, Phase.ENGINE: 100.0}


def recorded(*times: tuple[Phase, float, float | None]) -> BootRecord:
    boot = BootRecord()
    for phase, began, ended in times:
        boot.begin(phase, at=began)
        if ended is not None:
            boot.end(phase, at=ended)
    return boot


def test_only_the_first_beginning_and_the_first_end_of_a_phase_count() -> None:
    told: list[PhaseTime] = []
    boot = BootRecord(on_end=told.append)
    boot.end(Phase.ENGINE, at=5)
    boot.begin(Phase.ENGINE, at=10)
    boot.begin(Phase.ENGINE, at=20)
    boot.end(Phase.ENGINE, at=30, port=8000)
    boot.end(Phase.ENGINE, at=40)
    assert told == boot.times() == [PhaseTime(Phase.ENGINE, 10, 30, {"port": 8000})]
    assert boot.running() == []


def test_a_boot_begins_with_the_machine_where_user_data_is_known() -> None:
    boot = BootRecord()
    begin_before_agent(boot, booted_at=100.0, user_data_started_at=108.5, now=110.0)
    assert [(each.phase, each.started_at, each.ended_at) for each in boot.times()] == [
        (Phase.KERNEL, 100.0, 108.5),
        (Phase.USER_DATA, 108.5, 110.0),
    ]
    assert boot.to_json()["path"] == {"kernel": 8.5, "user_data": 1.5}


def test_the_kernel_says_since_when_it_runs_where_nobody_else_does() -> None:
    boot, now = BootRecord(), time.time()
    begin_before_agent(boot, booted_at=None, user_data_started_at=now - 1, now=now)
    up_seconds = now - boot.times()[0].started_at
    assert up_seconds == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1)


def test_an_agent_that_is_started_again_records_nothing_before_itself() -> None:
    boot = BootRecord()
    begin_before_agent(boot, booted_at=100.0, user_data_started_at=None, now=110.0)
    assert boot.times() == []


def test_a_boot_stalls_with_the_name_of_the_phase_that_is_late_the_longest() -> None:
    taken = {Phase.IMAGE: 107.0, Phase.ENGINE: 102.0, Phase.WEIGHTS: 97.0}
    stalled = stall(taken, LIMITS, start_limit_seconds=1000, waited_seconds=90)
    assert stalled is not None
    assert (stalled.phase, stalled.reason) == (Phase.WEIGHTS, "stalled in weights: 97.0 s of at most 60 s")


def test_a_boot_within_its_limits_goes_on() -> None:
    taken = {Phase.IMAGE: 110.0, Phase.WEIGHTS: 60.0}
    assert stall(taken, LIMITS, start_limit_seconds=100, waited_seconds=100) is None


def test_a_clock_that_is_set_in_the_middle_of_a_boot_gives_nothing_up() -> None:
    boot = BootRecord()
    boot.begin(Phase.WEIGHTS)
    with mock.patch("time.time", return_value=time.time() + 86_400):
        assert boot.taken()[Phase.WEIGHTS] < 60
        assert stall(boot.taken(), LIMITS, start_limit_seconds=100, waited_seconds=1) is None
    boot.end(Phase.WEIGHTS)
    assert boot.taken() == {}


@pytest.mark.parametrize(
    ("taken", "phase"),
    [
        ({Phase.COMPILE_CACHE: 38.0, Phase.WEIGHTS: 39.0}, Phase.WEIGHTS),
        ({}, Phase.ENGINE),
    ],
)
def test_a_boot_that_takes_too_long_as_a_whole_is_blamed_on_what_runs_the_longest(
    taken: dict[Phase, float], phase: Phase
) -> None:
    stalled = stall(taken, {}, start_limit_seconds=30, waited_seconds=30.1)
    assert stalled is not None
    assert stalled.phase is phase
    assert stalled.reason == f"stalled in {phase.value}: not ready within 30 s"


def test_fetches_side_by_side_count_once_and_only_while_nothing_else_ran() -> None:
    boot = recorded(
        (Phase.KERNEL, 0, 8),
        (Phase.USER_DATA, 8, 10),
        (Phase.IMAGE, 10, 12),
        (Phase.WEIGHTS, 10, 25),
        (Phase.ENGINE, 25.5, 60),
        (Phase.WARM_UP, 60, 61),
    )
    assert critical_path(boot.times(), now=100) == {
        "kernel": 8,
        "user_data": 2,
        "fetch": 15.5,
        "engine": 34.5,
        "warm_up": 1,
    }


@given(
    st.lists(
        st.tuples(st.sampled_from(Phase), st.floats(0, 100), st.floats(0, 100), st.booleans()),
        min_size=1,
        unique_by=lambda each: each[0],
    )
)
def test_the_parts_of_a_path_add_up_to_the_boot(times: list[tuple[Phase, float, float, bool]]) -> None:
    now = 300.0
    boot = recorded(*((phase, at, at + took if ended else None) for phase, at, took, ended in times))
    path = critical_path(boot.times(), now=now)
    ends = [now if each.ended_at is None else each.ended_at for each in boot.times()]
    assert sum(path.values()) == pytest.approx(max(ends) - boot.times()[0].started_at)
    assert not path.keys() & {phase.value for phase in FETCHES}
