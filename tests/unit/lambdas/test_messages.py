"""What becomes of messages: waits that fit their deadline, and batch calls of which a part can fail."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spot_failover.messages import BYTES_LIMIT, Message, MessageSettler, Settlement, backoff_seconds
from spot_failover.outcomes import Disposition

from tests.unit.lambdas.fake_aws import NOTICED

RETRY, DEAD, DONE = Disposition.RETRY, Disposition.DEAD_LETTER, Disposition.DONE


class FakeQueue:
    """Takes batch calls, and refuses the entries of the receipts and bodies it is told to."""

    def __init__(self, *refused: str) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self._refused = refused

    def __getattr__(self, operation: str) -> Any:
        def call(**parameters: Any) -> dict[str, Any]:
            entries = parameters["Entries"]
            assert 0 < len(entries) <= 10
            assert len({one["Id"] for one in entries}) == len(entries)
            self.calls.append((operation, entries))
            refused = [
                one
                for one in entries
                if one.get("ReceiptHandle") in self._refused or one.get("MessageBody") in self._refused
            ]
            return {"Failed": [{"Id": one["Id"], "Code": "InternalError"} for one in refused]}

        return call

    def of(self, operation: str) -> list[Any]:
        return [entry for name, entries in self.calls if name == operation for entry in entries]


def message(name: str, *, gathered: bool = False, body: str = "") -> Message:
    return Message(name, f"receipt-{name}", body or f"body-{name}", receive_count=1, gathered=gathered)


def settle(queue: Any, messages: list[Message], fates: dict[str, Disposition]) -> list[str]:
    settler = MessageSettler(queue, queue_url="queue", dead_letter_queue_url="dead")
    settlements = {name: Settlement(fate, "why") for name, fate in fates.items()}
    response: Any = settler.settle(messages, settlements, now=NOTICED)
    return [one["itemIdentifier"] for one in response["batchItemFailures"]]


@pytest.mark.parametrize(("count", "seconds"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (20, 8)])
def test_backoff_grows_to_eight_seconds(count: int, seconds: int) -> None:
    assert backoff_seconds(count) == seconds


@pytest.mark.parametrize(
    ("left", "seconds"), [(120.0, 8), (47.9, 7), (30.0, 5), (13.0, 2), (6.0, 1), (0.4, 1), (-3.0, 1)]
)
def test_backoff_shrinks_with_the_time_that_is_left(left: float, seconds: int) -> None:
    assert backoff_seconds(9, left=left) == seconds


def test_what_is_to_be_looked_at_again_soon_is_and_ever_sooner_near_its_deadline() -> None:
    assert [backoff_seconds(9, left=left, look_again=2) for left in (100, 12, 11)] == [2, 2, 1]


@given(began=st.floats(0, 119), works=st.floats(0, 0.5))
def test_a_message_is_looked_at_in_the_last_seconds_before_its_deadline(began: float, works: float) -> None:
    at, looks = began, []
    while at < 120:
        looks.append(at)
        at += works + backoff_seconds(len(looks), left=120 - at)
    assert looks[-1] >= 120 - 1.5
    assert len(looks) <= 40  # of 150 receptions


def test_lambda_deletes_what_it_delivered_and_the_function_what_it_gathered() -> None:
    queue = FakeQueue()
    messages = [message("a"), message("b", gathered=True), message("c", gathered=True)]
    assert settle(queue, messages, {"a": DONE, "b": DONE, "c": RETRY}) == []
    assert [one["ReceiptHandle"] for one in queue.of("delete_message_batch")] == ["receipt-b"]
    assert [one["ReceiptHandle"] for one in queue.of("change_message_visibility_batch")] == ["receipt-c"]


def test_a_gathered_dead_letter_is_deleted_once_it_is_safe_and_no_sooner() -> None:
    queue = FakeQueue("body-b", "body-c")
    messages = [message("a", gathered=True), message("b", gathered=True), message("c")]
    assert settle(queue, messages, dict.fromkeys("abc", DEAD)) == ["c"]
    assert [one["ReceiptHandle"] for one in queue.of("delete_message_batch")] == ["receipt-a"]
    again = [one["ReceiptHandle"] for one in queue.of("change_message_visibility_batch")]
    assert again == ["receipt-b", "receipt-c"]


def test_a_message_that_cannot_be_deleted_keeps_no_other_from_it() -> None:
    names = [f"{number:02}" for number in range(25)]
    queue = FakeQueue("receipt-03")
    assert settle(queue, [message(name, gathered=True) for name in names], dict.fromkeys(names, DONE)) == []
    assert [len(entries) for _, entries in queue.calls] == [10, 10, 5]


def test_dead_letters_are_sent_as_many_at_a_time_as_a_call_can_carry() -> None:
    large = "x" * (BYTES_LIMIT // 3)
    messages = [message(str(number), body=large) for number in range(5)]
    queue = FakeQueue()
    assert settle(queue, messages, dict.fromkeys("01234", DEAD)) == []
    assert [len(entries) for _, entries in queue.calls] == [2, 2, 1]
