"""Steady traffic from the stock OpenAI SDK: a thread for each client, default timeout and retries kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import openai

from local_aws.demo import calls
from local_aws.demo.answers import Attempt, Judgement, RequestKind, RequestOutcome, RequestRecord, judge
from local_aws.demo.observed_http import ObservedHttpClient
from local_aws.demo.workload import Ask, ask

# What a user would call "it hangs". The SDK's own timeout (600 s) stays; this one only judges.
PATIENCE_SECONDS = 60.0
_CALIBRATION_TOKENS = 200


@dataclass(frozen=True, slots=True)
class Open:
    """A request in flight: when it began and when an idle engine would have answered it."""

    client: int
    number: int
    kind: RequestKind
    max_tokens: int
    started_at: float
    expected_end: float


@dataclass(frozen=True, slots=True)
class TrafficCounts:
    """The traffic at one moment."""

    in_flight: int
    complete: int
    retried: int
    lost: int


def tokens_per_second(base_url: str, model: str) -> float:
    """Measure one request's generation rate on an engine that does nothing else (the better of two)."""
    rates: list[float] = []
    with (
        ObservedHttpClient() as http,
        openai.OpenAI(base_url=base_url, api_key="none", http_client=http) as sdk,
    ):
        for _ in range(2):
            began = time.monotonic()
            calls.complete(sdk, model=model, prompt="How fast?", max_tokens=_CALIBRATION_TOKENS)
            rates.append(_CALIBRATION_TOKENS / (time.monotonic() - began))
    return max(rates)


class Traffic:
    """The clients. `start()` once, `stop()` once; the rest may be asked from any thread at any time.

    `workload` says what a client asks next, as `workload.ask` does, which is the default.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        clients: int,
        rate: float,
        workload: Callable[..., Ask] | None = None,
    ) -> None:
        self._base_url = base_url
        self._model = model
        self._rate = rate
        self._ask = workload or ask
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._records: list[RequestRecord] = []
        self._open: dict[int, Open] = {}
        self._threads = [
            threading.Thread(target=self._run_client, args=(number,), name=f"client-{number}", daemon=True)
            for number in range(clients)
        ]

    def start(self) -> None:
        """Let the clients begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Let every client finish its request; what is open after `patience_seconds` counts as lost."""
        self._stopping.set()
        give_up = time.monotonic() + patience_seconds
        for thread in self._threads:
            thread.join(max(0.0, give_up - time.monotonic()))
        with self._lock:
            now = time.time()
            unfinished = Judgement(RequestOutcome.UNFINISHED, "no end when the demo stopped waiting")
            self._records += [_record(held, now, unfinished) for held in self._open.values()]
            self._open.clear()

    def records(self) -> tuple[RequestRecord, ...]:
        """Every request that has ended, in the order in which they ended."""
        with self._lock:
            return tuple(self._records)

    def counts(self) -> TrafficCounts:
        """Count what has ended and what is in flight; what outlasts the patience is lost already."""
        with self._lock:
            hanging = sum(time.time() - held.started_at > PATIENCE_SECONDS for held in self._open.values())
            complete = sum(record.complete for record in self._records)
            return TrafficCounts(
                in_flight=len(self._open),
                complete=complete,
                retried=sum(record.retried for record in self._records),
                lost=len(self._records) - complete + hanging,
            )

    def in_flight_for(self, seconds: float) -> int:
        """Count the requests in flight that not even an idle engine would finish in the next `seconds`."""
        with self._lock:
            return sum(held.expected_end - time.time() >= seconds for held in self._open.values())

    def _run_client(self, client: int) -> None:
        number = 0
        with (
            ObservedHttpClient() as http,
            openai.OpenAI(base_url=self._base_url, api_key="none", http_client=http) as sdk,
        ):
            while True:
                todo = self._ask(client=client, number=number, tokens_per_second=self._rate)
                if self._stopping.wait(todo.rest_seconds):
                    return
                self._make_request(sdk, http, todo, client=client, number=number)
                number += 1

    def _make_request(
        self, sdk: openai.OpenAI, http: ObservedHttpClient, todo: Ask, *, client: int, number: int
    ) -> None:
        began = time.time()
        held = Open(client, number, todo.kind, todo.max_tokens, began, began + todo.max_tokens / self._rate)
        with self._lock:
            self._open[client] = held
        http.begin()
        first_token = calls.FirstToken()
        judgement = self._ask_and_judge(sdk, http, todo, began, first_token)
        ended = time.time()
        with self._lock:
            # Gone already where stop() has given it up as unfinished: a request has one outcome.
            if self._open.pop(client, None) is not None:
                self._records.append(_record(held, ended, judgement, http.attempts, first_token.at))

    def _ask_and_judge(
        self,
        sdk: openai.OpenAI,
        http: ObservedHttpClient,
        todo: Ask,
        began: float,
        first_token: calls.FirstToken,
    ) -> Judgement:
        try:
            answer = calls.send(sdk, todo, model=self._model, first_token=first_token)
        except Exception as err:  # whatever reaches the client's code is a lost request
            return Judgement(RequestOutcome.ERROR, f"{type(err).__name__}: {err}"[:300])
        seconds = time.time() - began
        if todo.kind.streams:
            answer = calls.with_end(answer, ended_with_done=http.ended_with_done)
        return judge(
            answer, expected_tokens=todo.max_tokens, seconds=seconds, patience_seconds=PATIENCE_SECONDS
        )


def _record(
    held: Open,
    ended_at: float,
    judgement: Judgement,
    attempts: tuple[Attempt, ...] = (),
    first_token_at: float | None = None,
) -> RequestRecord:
    return RequestRecord(
        client=held.client,
        number=held.number,
        kind=held.kind,
        max_tokens=held.max_tokens,
        started_at=held.started_at,
        ended_at=ended_at,
        judgement=judgement,
        attempts=attempts,
        first_token_at=first_token_at,
    )
