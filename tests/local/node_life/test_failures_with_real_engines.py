"""Real vLLM crashes, hangs, loses its GPU or never starts: the node says so, and recovers or is replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.local.node_life.lives import (
    HANG_SECONDS,
    crash,
    hang,
    lose_gpu,
    never_start,
    notice_while_starting,
)

Lives = Callable[[Callable[..., Any]], Any]


def test_a_crashed_engine_starts_again_and_its_orphaned_core_is_gone(lives: Lives) -> None:
    life = lives(crash)
    assert life.health_while_unready == 503
    assert "ended by itself" in life.unready["reason"]
    assert life.first_again["engine"]["restarts"] == 1
    assert life.orphan not in life.processes_again
    assert life.processes_again


def test_an_engine_whose_core_died_starts_again(lives: Lives) -> None:
    life = lives(crash)
    assert life.second_again["engine"]["restarts"] == 2
    assert len(life.exits) == 2


def test_a_node_that_recovered_drains_as_if_nothing_had_been(lives: Lives) -> None:
    life = lives(crash)
    assert life.tokens == 400
    assert (life.outcome["engine_exit"], life.outcome["cut"]) == ("graceful", 0)
    assert not life.left


def test_a_busy_engine_is_not_taken_for_a_hung_one(lives: Lives) -> None:
    assert lives(hang).busy_restarts == 0


def test_an_engine_that_is_alive_but_answers_nothing_is_replaced_by_a_new_one(lives: Lives) -> None:
    life = lives(hang)
    assert "answered nothing" in life.unready["reason"]
    assert HANG_SECONDS - 2 <= life.seconds_to_unready <= HANG_SECONDS + 10
    assert life.again["engine"]["restarts"] == 1
    assert life.processes_again.keys().isdisjoint(life.stopped)


def test_a_hung_engine_does_not_carry_a_drain_past_its_deadline(lives: Lives) -> None:
    life = lives(hang)
    assert life.drained_at < life.deadline
    assert life.drained["drain"]["outcome"]["engine_exit"] == "killed"
    assert not life.left


def test_a_fault_of_the_application_in_the_kernel_log_changes_nothing(lives: Lives) -> None:
    life = lives(lose_gpu)
    assert (life.after_harmless["state"], life.after_harmless["engine"]["restarts"]) == ("ready", 0)


def test_a_node_that_lost_its_gpu_is_unready_says_why_and_asks_for_a_replacement(lives: Lives) -> None:
    life = lives(lose_gpu)
    assert life.seconds_to_failed < 5
    assert "Xid 79" in life.failed["reason"]
    assert life.health == 503
    assert not life.left
    assert len(life.asked) == 1


def test_a_failed_node_still_answers_a_drain_and_ends_when_told(lives: Lives) -> None:
    life = lives(lose_gpu)
    assert life.alive_before_end
    assert life.outcome["cut"] == 0
    assert life.exit_status == 0


def test_a_notice_during_the_start_kills_the_engine_and_abandons_the_launch(lives: Lives) -> None:
    life = lives(notice_while_starting)
    assert life.seconds_to_drained < 10
    outcome = life.drained["drain"]["outcome"]
    assert (outcome["engine_exit"], outcome["cut"]) == ("killed", 0)
    assert not life.left
    assert len(life.abandoned) == 1


def test_an_engine_that_never_starts_ends_the_boot_with_a_diagnosis(lives: Lives) -> None:
    life = lives(never_start)
    (told,) = life.boot_failed
    assert told["phase"] == "engine"
    assert "no-such-model" in str(life.failed["diagnosis"]["engine_log"])
    assert len(life.abandoned) == 1
    assert not life.left
