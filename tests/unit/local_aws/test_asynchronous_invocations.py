"""When Lambda tries an event again, and when it gives it up."""

from __future__ import annotations

from itertools import pairwise

import pytest

from local_aws.functions.asynchronous import LONGEST_AGE_SECONDS, Attempts, Ended, wait_seconds


def test_failing_function_is_run_three_times_one_and_then_two_minutes_apart() -> None:
    attempts, waits = Attempts(put_at=100.0), []
    for _ in range(3):
        attempts = attempts.after(Ended.FAILED)
        waits.append(wait_seconds(attempts, Ended.FAILED, now=100.0))
    assert waits == [60.0, 120.0, None]


def test_event_that_went_well_is_over() -> None:
    attempts = Attempts(put_at=0.0).after(Ended.WELL)
    assert wait_seconds(attempts, Ended.WELL, now=1.0) is None


def test_throttled_event_waits_ever_longer_up_to_five_minutes() -> None:
    attempts, waits = Attempts(put_at=0.0), []
    for _ in range(12):
        attempts = attempts.after(Ended.THROTTLED)
        waits.append(wait_seconds(attempts, Ended.THROTTLED, now=0.0) or 0.0)
    assert waits[:3] == [1.0, 2.0, 4.0]
    assert all(later >= earlier for earlier, later in pairwise(waits))
    assert waits[-1] == 300.0


def test_throttling_takes_none_of_the_attempts_a_failing_function_has() -> None:
    attempts = Attempts(put_at=0.0)
    for _ in range(5):
        attempts = attempts.after(Ended.THROTTLED)
    attempts = attempts.after(Ended.FAILED)
    assert wait_seconds(attempts, Ended.FAILED, now=40.0) == 60.0


@pytest.mark.parametrize("ended", [Ended.FAILED, Ended.THROTTLED])
def test_event_that_would_be_older_than_six_hours_is_given_up(ended: Ended) -> None:
    attempts = Attempts(put_at=0.0).after(ended)
    assert wait_seconds(attempts, ended, now=LONGEST_AGE_SECONDS - 400) is not None
    assert wait_seconds(attempts, ended, now=LONGEST_AGE_SECONDS) is None
