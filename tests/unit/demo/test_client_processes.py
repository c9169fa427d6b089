"""Clients in processes of their own: what they did is not lost on the way, and they outlive nobody."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from bench.endurance.clients import ClientPlan, ClientProcesses
from bench.endurance.errors import ClientsEndedError


def plan(engine: Any) -> ClientPlan:
    return ClientPlan(base_url=engine.url, model="tiny", rate=200.0, clients=2, requests_per_second=20.0)


def test_requests_of_all_processes_are_counted_and_handed_over(engine: Any) -> None:
    with ClientProcesses(plan(engine), processes=2) as clients:
        limit = time.monotonic() + 30
        while clients.counts().complete < 8 and time.monotonic() < limit:
            time.sleep(0.1)
        records = clients.stop()
    assert len(records) >= 8
    assert all(record.complete for record in records)
    assert len(engine.requests) == sum(len(record.attempts) for record in records)
    assert [record.ended_at for record in records] == sorted(record.ended_at for record in records)


def test_lost_request_comes_back_as_lost(engine: Any) -> None:
    engine.script = ["abort", "whole"]
    with ClientProcesses(plan(engine), processes=1) as clients:
        limit = time.monotonic() + 30
        while not clients.counts().lost and time.monotonic() < limit:
            time.sleep(0.1)
        assert clients.counts().lost == 1
        assert sum(not record.complete for record in clients.stop()) == 1


def test_process_that_ended_is_noticed(engine: Any) -> None:
    with ClientProcesses(plan(engine), processes=1) as clients:
        (process,) = clients._processes
        os.kill(process.pid or 0, 9)
        process.join(10)
        with pytest.raises(ClientsEndedError, match="client process 0 has ended"):
            clients.counts()
