"""An incident is what its entries tell, in whatever order they come and however often they repeat."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from spot_failover.incidents import Entry, fold, fold_all
from spot_failover.outcomes import OUTSIDE_INCIDENTS, SUCCESSES, Disposition, Outcome, Step, disposition

NOTICED = datetime(2026, 11, 23, 13, 38, tzinfo=UTC)


def entry(step: Step, outcome: Outcome, second: float, **detail: Any) -> Entry:
    return Entry(
        incident="i-1234567890abcdef0",
        fleet="chat",
        at=NOTICED + timedelta(seconds=second),
        step=step,
        outcome=outcome,
        noticed_at=NOTICED,
        deadline=NOTICED + timedelta(seconds=120),
        detail=detail,
    )


WHOLE = (
    entry(Step.DEREGISTER, Outcome.RETRYING, 0.5),
    entry(Step.DEREGISTER, Outcome.DEREGISTERED, 1.6),
    entry(Step.DRAIN_COMMAND, Outcome.COMMANDED, 0.7, command_id="c"),
    entry(Step.REPLACEMENT_REQUEST, Outcome.DETACHED, 0.8, group="g"),
    entry(Step.REPLACEMENT_REQUEST, Outcome.ALREADY_DETACHED, 3),
    entry(Step.LAUNCH_FAILED, Outcome.LAUNCH_FAILED, 4, reason="no capacity"),
    entry(
        Step.DRAIN,
        Outcome.CUT,
        111.2,
        started_at="2026-11-23T13:38:00.900Z",
        finished_at="2026-11-23T13:39:51.200Z",
        in_flight_at_start=7,
        cut=2,
    ),
    entry(
        Step.REPLACEMENT,
        Outcome.IN_SERVICE,
        95.5,
        instance_id="i-00000000000000001",
        launched_at="2026-11-23T13:38:02.412Z",
    ),
)


def test_a_whole_incident_tells_every_field() -> None:
    incident = fold(WHOLE)
    assert incident.incident == "i-1234567890abcdef0"
    assert incident.fleet == "chat"
    assert incident.noticed_at == NOTICED
    assert incident.deadline == NOTICED + timedelta(seconds=120)
    assert incident.deregistered_at == NOTICED + timedelta(seconds=1.6)
    assert incident.drain_requested_at == NOTICED + timedelta(seconds=0.7)
    assert incident.drain_started_at == NOTICED + timedelta(seconds=0.9)
    assert incident.drained_at == NOTICED + timedelta(seconds=111.2)
    assert (incident.in_flight_at_notice, incident.cut_requests) == (7, 2)
    assert incident.replacement_requested_at == NOTICED + timedelta(seconds=0.8)
    assert incident.replacement_instance_id == "i-00000000000000001"
    assert incident.replacement_launched_at == NOTICED + timedelta(seconds=2.412)
    assert incident.replacement_in_service_at == NOTICED + timedelta(seconds=95.5)
    assert incident.recovery_seconds == 95.5
    assert not incident.awaits_replacement
    assert incident.outcomes == {
        Step.DEREGISTER: Outcome.DEREGISTERED,
        Step.DRAIN_COMMAND: Outcome.COMMANDED,
        Step.REPLACEMENT_REQUEST: Outcome.DETACHED,
        Step.DRAIN: Outcome.CUT,
        Step.REPLACEMENT: Outcome.IN_SERVICE,
        Step.LAUNCH_FAILED: Outcome.LAUNCH_FAILED,
    }


@pytest.mark.parametrize("seed", range(20))
def test_order_and_repeats_change_nothing(seed: int) -> None:
    shuffled = [*WHOLE, *random.Random(seed).choices(WHOLE, k=5)]
    random.Random(seed).shuffle(shuffled)
    folded, plain = fold(shuffled), fold(WHOLE)
    assert {**vars(folded), "entries": ()} == {**vars(plain), "entries": ()}


def test_an_incident_that_began_knows_nothing_of_its_end() -> None:
    incident = fold(WHOLE[1:4])
    assert incident.awaits_replacement
    assert incident.recovery_seconds is None
    assert incident.drained_at is None
    assert incident.in_flight_at_notice is None
    assert incident.cut_requests is None


def test_without_a_success_the_last_failure_counts_and_nothing_happened() -> None:
    entries = [
        entry(Step.DRAIN_COMMAND, Outcome.RETRYING, 1),
        entry(Step.DRAIN_COMMAND, Outcome.MISSED, 121),
        entry(Step.DRAIN_COMMAND, Outcome.NOT_MANAGED, 3),
    ]
    incident = fold(entries)
    assert incident.outcomes == {Step.DRAIN_COMMAND: Outcome.MISSED}
    assert incident.drain_requested_at is None


def test_an_unreported_drain_tells_no_times() -> None:
    incident = fold([entry(Step.DRAIN, Outcome.UNREPORTED, 30, status="Failed", error="boom")])
    assert (incident.drain_started_at, incident.drained_at, incident.cut_requests) == (None, None, None)


def test_no_entries_are_no_incident() -> None:
    with pytest.raises(ValueError, match="at least one entry"):
        fold([])


def test_mixed_entries_fold_into_incidents_oldest_notice_first() -> None:
    later = Entry(**{**vars(WHOLE[1]), "incident": "i-0", "noticed_at": NOTICED + timedelta(seconds=9)})
    assert [one.incident for one in fold_all([later, *WHOLE])] == ["i-1234567890abcdef0", "i-0"]


def test_outcomes_that_end_a_step_well_never_bring_the_message_back() -> None:
    assert {disposition(outcome) for outcome in SUCCESSES | OUTSIDE_INCIDENTS} == {Disposition.DONE}
    assert not SUCCESSES & OUTSIDE_INCIDENTS
    assert disposition(Outcome.FAILED) is Disposition.DEAD_LETTER
    assert disposition(Outcome.MISSED) is Disposition.DONE
