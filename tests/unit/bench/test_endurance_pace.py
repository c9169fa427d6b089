"""Clients ask at a steady rate, whatever the answers take."""

from __future__ import annotations

from collections import Counter

import pytest

from bench.endurance.pace import MOST_ARREARS_SECONDS, Pace
from local_aws.demo.answers import RequestKind


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_clients_begin_spread_over_a_period_and_ask_once_in_each() -> None:
    clock = Clock()
    pace = Pace(clients=4, requests_per_second=8.0, clock=clock)
    rests = [pace(client=client, number=0, tokens_per_second=200).rest_seconds for client in range(4)]
    assert rests == [0.0, 0.125, 0.25, 0.375]
    clock.now += rests[3] + 0.2  # the answer took 0.2 s
    assert pace(client=3, number=1, tokens_per_second=200).rest_seconds == pytest.approx(0.3)


def test_client_that_was_kept_waiting_makes_up_for_it_within_limits() -> None:
    clock = Clock()
    pace = Pace(clients=1, requests_per_second=2.0, clock=clock)
    pace(client=0, number=0, tokens_per_second=200)
    clock.now += 2.0
    at_once = [pace(client=0, number=n, tokens_per_second=200).rest_seconds for n in range(1, 5)]
    assert at_once == [0.0] * 4
    assert pace(client=0, number=5, tokens_per_second=200).rest_seconds == 0.5
    clock.now += 1000.0
    at_once = []
    while not (rest := pace(client=0, number=6, tokens_per_second=200).rest_seconds):
        at_once.append(rest)
    assert len(at_once) <= 2 * MOST_ARREARS_SECONDS + 1


def test_every_kind_of_request_comes_in_short_and_long() -> None:
    pace = Pace(clients=24, requests_per_second=60.0)
    asks = [pace(client=c, number=n, tokens_per_second=200.0) for c in range(24) for n in range(80)]
    long = Counter(ask.kind for ask in asks if ask.max_tokens >= 500)
    short = Counter(ask.kind for ask in asks if ask.max_tokens <= 20)
    assert set(long) == set(short) == set(RequestKind)
    mean = sum(ask.max_tokens for ask in asks) / len(asks) / 200.0
    assert mean * 60.0 < 24, "the clients could not keep the pace"
