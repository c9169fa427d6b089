"""What waits for AWS: in order, again until it arrived, in nobody's way, and over when the agent ends."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import outbox
from gpu_node_bootstrap.node_agent.errors import AwsCliError
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.outbox import Outbox


class Post:
    """What an outbox sends to: fails as often as it is told to."""

    def __init__(self, *, most: int = 100, failures: int = 0, seconds: float = 0) -> None:
        self.most = most
        self.failures = failures
        self.seconds = seconds
        self.calls: list[list[int]] = []
        self.timeouts: list[float] = []
        self.at: list[float] = []

    def send(self, items: Sequence[int], timeout_seconds: float) -> int:
        self.calls.append(list(items))
        self.timeouts.append(timeout_seconds)
        self.at.append(time.monotonic())
        time.sleep(min(self.seconds, timeout_seconds))
        if len(self.calls) <= self.failures:
            raise AwsCliError("not now")
        return min(len(items), self.most)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FIRST_PAUSE_SECONDS", 0.02)


def make(post: Post, *, room: int = 100, stream: io.StringIO | None = None) -> Outbox[int]:
    return Outbox("test", send=post.send, room=room, log=Log(stream=stream or io.StringIO()))


def test_items_wait_for_each_other_and_an_urgent_one_takes_all_along(kit: Any) -> None:
    post = Post()
    box = make(post)
    box.start()
    box.put(1, within_seconds=60)
    box.put(2, within_seconds=60)
    time.sleep(0.1)
    assert post.calls == []
    box.put(3, within_seconds=0)
    kit.eventually(lambda: post.calls)
    assert post.calls == [[1, 2, 3]]


def test_what_is_put_before_the_start_is_sent_after_it(kit: Any) -> None:
    post = Post()
    box = make(post)
    box.put(1, within_seconds=0)
    box.start()
    kit.eventually(lambda: post.calls == [[1]])


def test_more_than_one_call_takes_goes_in_several_in_order(kit: Any) -> None:
    post = Post(most=2)
    box = make(post)
    for number in range(5):
        box.put(number, within_seconds=0)
    box.start()
    kit.eventually(lambda: len(post.calls) == 3)
    assert [call[:2] for call in post.calls] == [[0, 1], [2, 3], [4]]


def test_what_fails_is_sent_again_with_growing_pauses_and_told_once(kit: Any) -> None:
    post, stream = Post(failures=3), io.StringIO()
    box = make(post, stream=stream)
    box.put(1, within_seconds=0)
    box.start()
    kit.eventually(lambda: len(post.calls) == 4)
    time.sleep(0.05)
    assert post.calls == [[1]] * 4
    pauses = [later - earlier for earlier, later in zip(post.at, post.at[1:], strict=False)]
    assert pauses[0] >= 0.02
    assert pauses[1] >= 0.04
    assert pauses[2] >= 0.08
    assert stream.getvalue().count("test_not_sent") == 1


def test_a_full_outbox_drops_the_oldest_and_says_how_many(kit: Any) -> None:
    post, stream = Post(), io.StringIO()
    box = make(post, room=3, stream=stream)
    for number in range(10):
        box.put(number, within_seconds=0)
    box.start()
    kit.eventually(lambda: "test_lost" in stream.getvalue())
    assert post.calls == [[7, 8, 9]]
    assert '"count": 7' in stream.getvalue()


def test_what_is_dropped_while_it_is_sent_takes_no_other_with_it(kit: Any) -> None:
    post = Post(seconds=0.2)
    box = make(post, room=2)
    box.put(0, within_seconds=0)
    box.put(1, within_seconds=0)
    box.start()
    kit.eventually(lambda: post.calls)
    box.put(2, within_seconds=0)
    kit.eventually(lambda: len(post.calls) == 2)
    assert post.calls == [[0, 1], [2]]


def test_the_end_sends_what_waits_at_once(kit: Any) -> None:
    post = Post()
    box = make(post)
    box.start()
    box.put(1, within_seconds=60)
    box.close(grace_seconds=5)
    assert post.calls == [[1]]
    assert post.timeouts[0] <= 5


def test_the_end_waits_no_longer_than_its_grace() -> None:
    post = Post(seconds=30, failures=100)
    box = make(post)
    box.start()
    box.put(1, within_seconds=0)
    time.sleep(0.05)
    began = time.monotonic()
    box.close(grace_seconds=0.3)
    assert time.monotonic() - began < 0.6


def test_the_end_of_an_outbox_that_cannot_send_comes_too(kit: Any) -> None:
    before = set(threading.enumerate())
    post = Post(failures=100)
    box = make(post)
    box.start()
    box.put(1, within_seconds=0)
    began = time.monotonic()
    box.close(grace_seconds=0.5)
    assert time.monotonic() - began < 0.8
    kit.eventually(lambda: set(threading.enumerate()) <= before)


def test_an_outbox_that_never_began_ends_at_once() -> None:
    began = time.monotonic()
    box = make(Post())
    box.put(1, within_seconds=0)
    box.close(grace_seconds=5)
    assert time.monotonic() - began < 0.5
