"""What follows a failure, decided; and a life whose preparation fails or that is closed before it begins."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_node_bootstrap.node_agent.boot import BootRecord, Phase
from gpu_node_bootstrap.node_agent.engine import Engine
from gpu_node_bootstrap.node_agent.engine_life import EngineLife, LifeEvents
from gpu_node_bootstrap.node_agent.errors import EngineError, PreparationError
from gpu_node_bootstrap.node_agent.failure import must_ask
from gpu_node_bootstrap.node_agent.hook import HookAnswer, HookResult, HookView
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.preparation import Preparation, Prepared
from gpu_node_bootstrap.node_agent.reports import Reporter
from gpu_node_bootstrap.node_agent.restarts import (
    LONGEST_PAUSE_SECONDS,
    Cause,
    Failure,
    GiveUp,
    Restart,
    after_failure,
)
from gpu_node_bootstrap.node_agent.service import Service, in_service
from gpu_node_bootstrap.node_agent.settings import EngineKind, Settings
from gpu_node_bootstrap.node_agent.vllm_api import EngineApi

SETTINGS = Settings.from_environment(
    {
        "SPOT_FAILOVER_FLEET": "chat",
        "SPOT_FAILOVER_REGION": "eu-west-1",
        "SPOT_FAILOVER_ASG_NAME": "spot-failover-chat",
        "SPOT_FAILOVER_ENGINE": "process",
        "SPOT_FAILOVER_ENGINE_COMMAND": '["engine"]',
        "SPOT_FAILOVER_SERVED_MODEL_NAME": "tiny",
        "SPOT_FAILOVER_RESTART_LIMIT": "0",
    }
)


def decisions(*served: float, limit: int, window: float = 600.0) -> list[Restart | GiveUp]:
    """Return what follows each of these failures, of engines that had been ready for so many seconds."""
    made: list[Restart | GiveUp] = []
    for seconds in served:
        before = made[-1].failures if made else 0
        made.append(after_failure(before, served_seconds=seconds, limit=limit, window_seconds=window))
    return made


def test_each_restart_in_a_row_waits_twice_as_long_as_the_one_before_it_up_to_a_limit() -> None:
    made = decisions(*[0.0] * 8, limit=10)
    assert [each.pause_seconds for each in made if isinstance(each, Restart)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_an_engine_is_given_up_at_the_failure_after_its_last_restart() -> None:
    assert decisions(0, 0, 0, 0, limit=3)[-2:] == [Restart(4, 3), GiveUp(4)]
    assert decisions(0, limit=0) == [GiveUp(1)]


def test_an_engine_that_takes_long_to_fail_again_is_given_up_too() -> None:
    assert decisions(599.0, 599.0, 599.0, 599.0, limit=3)[-1] == GiveUp(4)


def test_an_engine_that_served_for_the_whole_window_begins_a_new_row() -> None:
    assert decisions(0, 0, 0, 600.0, limit=3)[-1] == Restart(1, 1)


@given(st.lists(st.floats(0, 1e4), min_size=1), st.integers(0, 5), st.floats(1, 1e3))
def test_no_more_restarts_than_the_limit_follow_one_another_without_a_window_of_service(
    served: list[float], limit: int, window: float
) -> None:
    row = 0
    for seconds, decision in zip(served, decisions(*served, limit=limit, window=window), strict=True):
        row = 1 if seconds >= window else row + 1
        assert isinstance(decision, GiveUp) is (row > limit)
        assert not isinstance(decision, Restart) or decision.pause_seconds <= LONGEST_PAUSE_SECONDS


def test_a_recovery_that_takes_too_long_is_given_up_whatever_its_engines_do() -> None:
    told: list[str] = []
    settings = replace(SETTINGS, start_limit_seconds=0.05)
    service = Service(settings, reporter=mock.create_autospec(Reporter), log=Log(stream=io.StringIO()))
    time.sleep(0.06)
    service.engine_ready()
    service.engine_failed(Failure(Cause.CRASHED, "ended", 0.0), restarts=0, pause_seconds=1.0)
    service.watch_boot(HookView(HookResult.NO_HOOK), give_up=lambda reason, **_: told.append(reason))
    assert told == [], "the recovery has its own time, whatever the boot took"
    time.sleep(0.06)
    service.engine_failed(Failure(Cause.CRASHED, "ended again", 0.0), restarts=1, pause_seconds=1.0)
    service.watch_boot(HookView(HookResult.NO_HOOK), give_up=lambda reason, **_: told.append(reason))
    assert told == ["the engine was not ready again within 0.05 s"]


@pytest.mark.parametrize(
    ("result", "answer", "serves", "asks"),
    [
        (HookResult.NO_HOOK, None, True, True),
        (HookResult.PENDING, None, False, None),
        (HookResult.PENDING, HookAnswer.ABANDON, False, None),
        (HookResult.NOT_WAITING, HookAnswer.CONTINUE, True, True),
        (HookResult.NOT_WAITING, HookAnswer.ABANDON, True, True),
        (HookResult.COMPLETED, HookAnswer.CONTINUE, True, True),
        (HookResult.COMPLETED, HookAnswer.ABANDON, False, False),
    ],
)
def test_a_failed_node_asks_for_a_replacement_unless_its_launch_was_abandoned(
    result: HookResult, answer: HookAnswer | None, serves: bool, asks: bool | None
) -> None:
    assert in_service(HookView(result, answer=answer)) is serves
    assert must_ask(HookView(result, answer=answer)) is asks


class Unstartable(Engine):
    """An engine that cannot be started, and remembers whether anybody tried."""

    kind = EngineKind.PROCESS

    def __init__(self, starts: list[Prepared]) -> None:
        self._starts = starts

    def start(self, prepared: Prepared) -> None:
        self._starts.append(prepared)
        raise EngineError("no such program")

    def exit_status(self) -> int | None:
        return None

    def terminate(self) -> None:
        raise AssertionError("nobody asks an engine that never was ready to end")

    def kill(self) -> None:
        return

    def describe(self) -> dict[str, object]:
        return {}

    def log_tail(self, lines: int) -> list[str]:
        return ["never started"][:lines]


class Scripted(Preparation):
    """A preparation that does what a test says."""

    def __init__(self, run: Callable[[], Prepared]) -> None:
        super().__init__(SETTINGS, boot=BootRecord(), log=Log(stream=io.StringIO()))
        self._scripted = run
        self.stopped = threading.Event()

    def run(self) -> Prepared:
        return self._scripted()

    def stop(self) -> None:
        self.stopped.set()


def life_of(kit: Any, run: Callable[[], Prepared]) -> tuple[EngineLife, Scripted, list[Prepared]]:
    starts: list[Prepared] = []
    preparation = Scripted(run)
    life = EngineLife(
        SETTINGS,
        preparation=preparation,
        make_engine=lambda: Unstartable(starts),
        api=EngineApi(host=kit.HOST, port=kit.free_port(), served_model_name="tiny"),
        boot=BootRecord(),
        events=mock.create_autospec(LifeEvents, instance=True),
        log=Log(stream=io.StringIO()),
    )
    return life, preparation, starts


def given_up(life: EngineLife) -> list[tuple[str, Phase | None]]:
    """Live, and return what was said of its end."""
    told: list[tuple[str, Phase | None]] = []
    ended = threading.Event()

    def take(reason: str, *, phase: Phase | None = None) -> None:
        told.append((reason, phase))
        ended.set()

    life.start(on_give_up=take)
    ended.wait(2)
    return told


def test_a_preparation_that_fails_is_told_with_its_phase_and_starts_no_engine(kit: Any) -> None:
    def fails() -> Prepared:
        raise PreparationError(Phase.WEIGHTS, "no such bucket")

    life, _, starts = life_of(kit, fails)
    assert given_up(life) == [("no such bucket", Phase.WEIGHTS)]
    assert starts == []
    assert not life.alive()


def test_a_mistake_of_the_agents_own_is_told_too(kit: Any) -> None:
    def fails() -> Prepared:
        raise ZeroDivisionError("a mistake")

    life, _, _ = life_of(kit, fails)
    assert given_up(life) == [("the agent failed: ZeroDivisionError('a mistake')", None)]


def test_an_engine_that_cannot_be_started_has_failed(kit: Any) -> None:
    life, _, starts = life_of(kit, lambda: Prepared("model"))
    assert given_up(life) == [("no such program", None)]
    assert starts == [Prepared("model")]
    assert not life.alive()
    assert life.last_failure is not None
    assert life.last_failure.cause.value == "not_started"


def test_a_life_that_is_killed_while_it_prepares_starts_nothing_and_blames_nobody(kit: Any) -> None:
    stopped = threading.Event()

    def until_stopped() -> Prepared:
        assert preparation.stopped.wait(5)
        stopped.set()
        raise PreparationError(Phase.IMAGE, "stopped")

    life, preparation, starts = life_of(kit, until_stopped)
    told: list[str] = []
    life.start(on_give_up=lambda reason, **_: told.append(reason))
    life.kill()
    assert stopped.wait(2)
    assert (told, starts, life.alive(), life.exit_status()) == ([], [], False, None)
