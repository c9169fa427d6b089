"""What happened stays on record, and the record stays small."""

from __future__ import annotations

import threading
import tracemalloc

from local_aws.journal import Journal


def test_entries_come_back_in_order_from_any_number_on() -> None:
    journal = Journal(batch=4)
    for number in range(23):
        journal.append({"text": f"entry {number}", "list": [number]}, number_as="seq")
        assert len(journal) == number + 1
        for since in range(number + 3):
            found = journal.since(since)
            assert [entry["seq"] for entry in found] == list(range(since, number + 1))
            assert all(entry["list"] == [entry["seq"]] for entry in found)
    assert len(journal.since(-1)) == 23


def test_who_reads_may_alter_what_was_read() -> None:
    journal = Journal(batch=4)
    journal.append({"a": 1})
    journal.since()[0]["a"] = 2
    assert journal.since() == [{"a": 1}]


def test_memory_does_not_grow_with_the_entries() -> None:
    journal = Journal(batch=100)

    def record(count: int) -> int:
        for number in range(count):
            journal.append({"text": f"{number:0200}", "more": [str(number)] * 5}, number_as="seq")
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = record(1000)
        after = record(20_000)
    finally:
        tracemalloc.stop()
    assert after - before < 200_000
    assert len(journal) == 21_000


def test_writers_at_once_lose_nothing() -> None:
    journal = Journal(batch=10)

    def write() -> None:
        for number in range(500):
            journal.append({"a": number}, number_as="seq")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = journal.since()
    assert [entry["seq"] for entry in found] == list(range(2000))
    assert sorted(entry["a"] for entry in found) == sorted([*range(500)] * 4)
