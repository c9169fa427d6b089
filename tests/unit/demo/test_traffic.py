"""A client's request is judged by what arrived, with the stock SDK in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from local_aws.demo import calls, traffic, workload
from local_aws.demo.answers import RequestKind, RequestOutcome, RequestRecord
from local_aws.demo.traffic import Traffic, tokens_per_second


@pytest.fixture
def one_request(engine: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RequestRecord]:
    """Make one request of the given kind against the given script and return its record."""

    def make(kind: RequestKind, *script: str) -> RequestRecord:
        engine.script = list(script)
        asked = workload.Ask(kind=kind, prompt="hello", max_tokens=8, rest_seconds=0)
        rests = iter([asked, workload.Ask(kind=kind, prompt="", max_tokens=1, rest_seconds=3600)])
        monkeypatch.setattr(traffic, "ask", lambda **_: next(rests))
        clients = Traffic(base_url=engine.url, model="tiny", clients=1, rate=100)
        clients.start()
        limit = time.monotonic() + 10
        while not clients.records() and time.monotonic() < limit:
            time.sleep(0.01)
        clients.stop(patience_seconds=1)
        (record,) = clients.records()
        return record

    return make


@pytest.mark.parametrize("kind", RequestKind)
def test_whole_answer_is_complete_after_one_attempt(
    one_request: Callable[..., RequestRecord], kind: RequestKind
) -> None:
    record = one_request(kind, "whole")
    assert record.judgement.outcome is RequestOutcome.COMPLETE
    assert [attempt.status for attempt in record.attempts] == [200]
    assert not record.retried
    assert (record.first_token_at is not None) == kind.streams


@pytest.mark.parametrize("kind", RequestKind)
def test_request_that_the_sdk_repeats_is_complete_and_counted_as_retried(
    one_request: Callable[..., RequestRecord], kind: RequestKind
) -> None:
    record = one_request(kind, "unavailable", "whole")
    assert record.complete
    assert [attempt.status for attempt in record.attempts] == [503, 200]
    assert record.retried


def test_request_refused_every_time_is_lost_after_the_sdk_gives_up(
    one_request: Callable[..., RequestRecord],
) -> None:
    record = one_request(RequestKind.CHAT, "unavailable")
    assert record.judgement.outcome is RequestOutcome.ERROR
    assert len(record.attempts) == 1 + openai.DEFAULT_MAX_RETRIES


@pytest.mark.parametrize("kind", RequestKind)
@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        ("abort", RequestOutcome.ABORTED),
        ("short", RequestOutcome.WRONG_LENGTH),
        ("empty", RequestOutcome.EMPTY),
    ],
)
def test_broken_answer_with_http_200_is_lost(
    one_request: Callable[..., RequestRecord], kind: RequestKind, step: str, outcome: RequestOutcome
) -> None:
    assert one_request(kind, step).judgement.outcome is outcome


@pytest.mark.parametrize("kind", [kind for kind in RequestKind if kind.streams])
@pytest.mark.parametrize("step", ["no_finish", "no_done", "dies"])
def test_stream_that_does_not_end_as_it_should_is_lost(
    one_request: Callable[..., RequestRecord], kind: RequestKind, step: str
) -> None:
    assert one_request(kind, step).judgement.outcome is RequestOutcome.CUT_SHORT


def test_request_still_open_when_the_demo_stops_waiting_is_lost(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = workload.Ask(kind=RequestKind.CHAT, prompt="", max_tokens=8, rest_seconds=0)
    monkeypatch.setattr(traffic, "ask", lambda **_: asked)
    monkeypatch.setattr(calls, "send", lambda *_, **__: time.sleep(3600))
    clients = Traffic(base_url=engine.url, model="tiny", clients=1, rate=100)
    clients.start()
    while not clients.counts().in_flight:
        time.sleep(0.01)
    clients.stop(patience_seconds=0.1)
    assert [record.judgement.outcome for record in clients.records()] == [RequestOutcome.UNFINISHED]
    assert clients.counts().lost == 1


def test_hanging_request_counts_as_lost_while_it_hangs(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = workload.Ask(kind=RequestKind.CHAT, prompt="", max_tokens=8, rest_seconds=0)
    monkeypatch.setattr(traffic, "ask", lambda **_: asked)
    monkeypatch.setattr(traffic, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(calls, "send", lambda *_, **__: time.sleep(3600))
    clients = Traffic(base_url=engine.url, model="tiny", clients=1, rate=100)
    clients.start()
    time.sleep(0.3)
    assert clients.counts().lost == 1


def test_clients_ask_in_all_four_ways_for_answers_of_several_seconds() -> None:
    asks = [workload.ask(client=c, number=n, tokens_per_second=700) for c in range(4) for n in range(5)]
    assert {a.kind for a in asks} == set(RequestKind)
    assert all(2 <= a.max_tokens / 700 <= 6 for a in asks)
    assert len({workload.ask(client=c, number=0, tokens_per_second=700).kind for c in range(4)}) == 4


def test_generation_rate_is_measured_on_the_engine_itself(engine: Any) -> None:
    assert tokens_per_second(engine.url, "tiny") > 0
    assert len(engine.requests) == 2
