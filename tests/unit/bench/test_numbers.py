"""The bench's figures say what they claim."""

from __future__ import annotations

import threading
import time
import urllib.request

import pytest

from bench.node.links import MEGABYTE, ByteServer, Link, Proxy
from bench.node.numbers import Spread, ratios, spread


def test_spread_holds_the_least_the_median_and_the_most() -> None:
    assert spread([3.0, 1.0, 2.0004]) == Spread(1.0, 2.0, 3.0)
    assert spread([1.0, 2.0]).median == 1.5
    with pytest.raises(ValueError, match="no figures"):
        spread([])


def test_ratio_is_to_the_baseline_of_the_same_run() -> None:
    assert ratios([11.0, 44.0], [10.0, 40.0]) == [1.1, 1.1]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def fetch(url: str) -> tuple[int, float]:
    began = time.monotonic()
    with urllib.request.urlopen(url, timeout=10) as answer:
        return len(answer.read()), time.monotonic() - began


def test_bytes_take_the_time_that_the_bandwidth_says() -> None:
    with ByteServer(Link(10 * MEGABYTE)) as server:
        size, seconds = fetch(f"{server.url}/{5 * MEGABYTE}")
    assert size == 5 * MEGABYTE
    assert 0.5 <= seconds < 0.75


def test_connections_share_a_link_and_not_its_bandwidth_each() -> None:
    taken: list[float] = []
    with ByteServer(Link(10 * MEGABYTE)) as server:
        threads = [
            threading.Thread(target=lambda: taken.append(fetch(f"{server.url}/{2 * MEGABYTE}")[1]))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(taken) >= 0.38


def test_proxy_slows_the_answers_of_the_server_behind_it() -> None:
    with ByteServer(Link(1000 * MEGABYTE)) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        with Proxy(Link(10 * MEGABYTE), host=host, port=int(port)) as proxy:
            size, seconds = fetch(f"{proxy.url}/{3 * MEGABYTE}")
    assert size == 3 * MEGABYTE
    assert 0.3 <= seconds < 0.6
