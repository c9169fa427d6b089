"""The clients, in processes of their own: the demo's traffic, started, counted and collected over pipes."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Self

from bench.endurance.errors import ClientsEndedError
from bench.endurance.pace import Pace
from local_aws.demo.answers import RequestRecord
from local_aws.demo.traffic import PATIENCE_SECONDS, Traffic, TrafficCounts
from local_aws.demo.workload import Ask

REPORT_SECONDS = 1.0
# Beyond the patience with the last requests: handing over some ten thousand records.
HAND_OVER_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class ClientPlan:
    """What one process plays. `rate` is one request's tokens per second on an idle engine."""

    base_url: str
    model: str
    rate: float
    clients: int
    requests_per_second: float | None
    """Of all clients of the process; None: the demo's own workload."""

    def workload(self) -> Callable[..., Ask] | None:
        """Return what says what a client asks next; None is the demo's."""
        if self.requests_per_second is None:
            return None
        return Pace(clients=self.clients, requests_per_second=self.requests_per_second)


def play(connection: Connection, plan: ClientPlan) -> None:
    """Be a client process: tell the counts every second, and all records when told to stop.

    Ends when the other end of the pipe does: the process outlives nobody.
    """
    traffic = Traffic(
        base_url=plan.base_url,
        model=plan.model,
        clients=plan.clients,
        rate=plan.rate,
        workload=plan.workload(),
    )
    traffic.start()
    try:
        while not connection.poll(REPORT_SECONDS):
            connection.send(traffic.counts())
        connection.recv()
        traffic.stop()
        connection.send(traffic.records())
    except (EOFError, BrokenPipeError):
        return


class ClientProcesses:
    """A context manager; inside it the clients ask. `counts()` may be called from any thread."""

    def __init__(self, plan: ClientPlan, *, processes: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()
        self._processes: list[SpawnProcess] = []
        self._connections: list[Connection] = []
        self._counts = [TrafficCounts(in_flight=0, complete=0, retried=0, lost=0)] * processes
        for number in range(processes):
            ours, theirs = context.Pipe()
            self._connections.append(ours)
            process = context.Process(target=play, args=(theirs, plan), name=f"clients-{number}", daemon=True)
            process.start()
            theirs.close()  # or its end would never be seen here
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        for connection in self._connections:
            connection.close()

    def counts(self) -> TrafficCounts:
        """Return how all clients fare, a second ago. Raises ClientsEndedError where a process has ended."""
        with self._lock:
            for number, connection in enumerate(self._connections):
                try:
                    while connection.poll():
                        self._counts[number] = connection.recv()
                except (EOFError, OSError) as err:
                    raise ClientsEndedError(f"client process {number} has ended") from err
            return TrafficCounts(
                in_flight=sum(each.in_flight for each in self._counts),
                complete=sum(each.complete for each in self._counts),
                retried=sum(each.retried for each in self._counts),
                lost=sum(each.lost for each in self._counts),
            )

    def stop(self) -> tuple[RequestRecord, ...]:
        """Let the clients finish their requests; return every request there was, in order of its end.

        Raises ClientsEndedError where a process does not hand over what it has.
        """
        with self._lock:
            for connection in self._connections:
                connection.send("stop")
            records = [record for connection in self._connections for record in _handed_over(connection)]
        return tuple(sorted(records, key=lambda record: record.ended_at))


def _handed_over(connection: Connection) -> tuple[RequestRecord, ...]:
    try:
        while connection.poll(PATIENCE_SECONDS + HAND_OVER_SECONDS):
            told = connection.recv()
            if not isinstance(told, TrafficCounts):
                records: tuple[RequestRecord, ...] = told
                return records
    except (EOFError, OSError) as err:
        raise ClientsEndedError("a client process ended without handing over its requests") from err
    raise ClientsEndedError("a client process does not hand over its requests")
