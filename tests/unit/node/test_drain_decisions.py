"""What a drain does next."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_node_bootstrap.node_agent.drain import (
    STOP_SECONDS,
    DrainOutcome,
    EngineExit,
    Situation,
    Step,
    Tally,
    Trigger,
    how_it_ended,
    next_step,
)
from gpu_node_bootstrap.node_agent.vllm_api import Load

IDLE = Load(running=0, waiting=0, finished=7)
BUSY = Load(running=2, waiting=1, finished=5)


def situation(**changes: Any) -> Situation:
    """Return a drain ten seconds before its end: settled, idle, nothing done yet."""
    known: dict[str, Any] = {
        "now": 100.0,
        "began_at": 0.0,
        "give_up_at": 110.0,
        "settle_seconds": 15.0,
        "checked_at": None,
        "was_ready": True,
        "alive": True,
        "load": IDLE,
        "idle_readings": 2,
        "terminated_at": None,
    }
    return Situation(**{**known, **changes})


def test_an_idle_engine_is_stopped_once_the_settle_time_has_passed() -> None:
    assert next_step(situation()) is Step.TERMINATE
    assert next_step(situation(began_at=86.0)) is Step.WAIT


def test_an_engine_serves_on_while_the_load_balancer_still_checks_the_node() -> None:
    assert next_step(situation(checked_at=86.0)) is Step.WAIT
    assert next_step(situation(checked_at=85.0)) is Step.TERMINATE
    assert next_step(situation(checked_at=99.0, now=110.0)) is Step.KILL, "never past its time"


@pytest.mark.parametrize(("load", "idle_readings"), [(BUSY, 0), (IDLE, 1), (None, 0)])
def test_an_engine_is_not_stopped_before_it_was_idle_twice(load: Load | None, idle_readings: int) -> None:
    assert next_step(situation(load=load, idle_readings=idle_readings)) is Step.WAIT


def test_an_engine_that_never_was_ready_is_killed_at_once() -> None:
    assert next_step(situation(was_ready=False, began_at=100.0)) is Step.KILL


def test_a_stopped_engine_is_given_time_while_it_works_and_killed_when_it_hangs() -> None:
    stopping = situation(terminated_at=100.0 - STOP_SECONDS)
    assert next_step(situation(terminated_at=99.0)) is Step.WAIT
    assert next_step(situation(terminated_at=100.0 - STOP_SECONDS, load=BUSY)) is Step.WAIT
    assert next_step(stopping) is Step.KILL
    assert next_step(situation(terminated_at=100.0 - STOP_SECONDS, load=None)) is Step.KILL


def test_an_engine_that_has_ended_ends_the_drain() -> None:
    assert next_step(situation(alive=False, now=500.0)) is Step.FINISH


@given(
    load=st.sampled_from([IDLE, BUSY, None]),
    idle_readings=st.integers(0, 5),
    was_ready=st.booleans(),
    terminated_at=st.none() | st.floats(0, 200),
    late=st.floats(0, 1e6),
    settle=st.floats(0, 1e6),
)
def test_from_the_give_up_time_on_a_living_engine_is_killed_whatever_else_is_known(
    load: Load | None,
    idle_readings: int,
    was_ready: bool,
    terminated_at: float | None,
    late: float,
    settle: float,
) -> None:
    known = situation(
        now=110.0 + late,
        load=load,
        idle_readings=idle_readings,
        was_ready=was_ready,
        terminated_at=terminated_at,
        settle_seconds=settle,
    )
    assert next_step(known) is Step.KILL


def test_requests_are_counted_from_the_first_answered_reading_to_the_last() -> None:
    tally = Tally(was_ready=True)
    for load in (None, BUSY, IDLE, None):
        tally.add(load)
    assert (tally.in_flight_at_start, tally.finished, tally.in_flight) == (3, 2, 0)
    assert tally.idle_readings == 0


def test_an_engine_that_ended_well_has_answered_what_the_last_reading_still_saw() -> None:
    tally = Tally(was_ready=True)
    tally.add(BUSY)
    tally.answered_all()
    assert (tally.finished, tally.in_flight) == (3, 0)


def test_counts_of_an_engine_that_never_answered_are_unknown_and_of_one_never_ready_none() -> None:
    for was_ready, count in ((True, None), (False, 0)):
        tally = Tally(was_ready=was_ready)
        tally.add(None)
        assert (tally.in_flight_at_start, tally.finished, tally.in_flight) == (count, count, count)


@pytest.mark.parametrize(
    ("alive_at_start", "terminated", "killed", "expected"),
    [
        (False, False, False, EngineExit.ALREADY_STOPPED),
        (True, True, False, EngineExit.GRACEFUL),
        (True, True, True, EngineExit.KILLED),
        (True, False, True, EngineExit.KILLED),
        (True, False, False, EngineExit.ALREADY_STOPPED),
    ],
)
def test_how_the_engine_ended(
    alive_at_start: bool, terminated: bool, killed: bool, expected: EngineExit
) -> None:
    assert how_it_ended(alive_at_start=alive_at_start, terminated=terminated, killed=killed) is expected


@pytest.mark.parametrize(("cut", "result"), [(0, "drained"), (1, "cut"), (None, "cut")])
def test_a_drain_is_cut_unless_it_is_known_that_nothing_was(cut: int | None, result: str) -> None:
    outcome = DrainOutcome(
        instance_id="i-0123456789abcdef0",
        trigger=Trigger.IMDS,
        started_at=1000.0,
        finished_at=1001.5,
        deadline=1120.0,
        in_flight_at_start=3,
        finished=3,
        cut=cut,
        engine_exit=EngineExit.KILLED,
    )
    assert outcome.to_json() == {
        "instance_id": "i-0123456789abcdef0",
        "trigger": "imds",
        "started_at": "1970-01-01T00:16:40.000Z",
        "finished_at": "1970-01-01T00:16:41.500Z",
        "seconds": 1.5,
        "deadline": "1970-01-01T00:18:40.000Z",
        "in_flight_at_start": 3,
        "finished": 3,
        "cut": cut,
        "engine_exit": "killed",
        "outcome": result,
    }
