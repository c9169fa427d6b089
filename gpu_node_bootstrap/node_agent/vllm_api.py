"""What the agent asks of vLLM: a completion that proves readiness, and its counts of work and requests."""

from __future__ import annotations

import http.client
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .errors import EngineAnswerError
from .http_fetch import fetch

READY_TIMEOUT_SECONDS = 10.0
ALIVE_TIMEOUT_SECONDS = 2.0
METRICS_TIMEOUT_SECONDS = 2.0
# Neither an answer: the client went away, or the engine failed the request.
_UNFINISHED = frozenset({"abort", "error"})
_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
_FINISHED = "vllm:request_success_total"
_KV_CACHE = "vllm:kv_cache_usage_perc"
_TOKENS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
# What else an engine tells is not looked at, whatever it holds.
_READ = frozenset({_RUNNING, _WAITING, _FINISHED, _KV_CACHE, *_TOKENS})
_FINISHED_REASON = re.compile(r'finished_reason="([^"]*)"')


@dataclass(frozen=True)
class Load:
    """Requests as vLLM counts them at one moment, over all its engine cores."""

    running: int
    waiting: int
    finished: int
    """Answered to the end since the engine's start."""

    @property
    def in_flight(self) -> int:
        """Requests that the engine has accepted and not answered."""
        return self.running + self.waiting


@dataclass(frozen=True)
class Vitals:
    """What an engine that works cannot leave as it is, summed over its cores: any change is a sign of life.

    The cores' schedulers report these after each step, so an API server that lives on alone changes none.
    The prefill of a long prompt shows in the KV cache alone, for as long as it takes.
    """

    tokens: float
    finished: int
    kv_cache: float


class EngineApi:
    """The engine's HTTP side."""

    def __init__(self, *, host: str, port: int, served_model_name: str) -> None:
        self._host = host
        self._port = port
        self._model = served_model_name
        self._headers = {"Content-Type": "application/json"}

    def use_key(self, key: str | None) -> None:
        """Ask with this API key from now on; None: without one."""
        if key is not None:
            self._headers = {**self._headers, "Authorization": f"Bearer {key}"}

    def answers(self) -> bool:
        """Return whether the engine answers over HTTP at all, which it does once it has started."""
        try:
            answer = fetch(self._host, self._port, "GET", "/health", timeout_seconds=ALIVE_TIMEOUT_SECONDS)
        except (OSError, http.client.HTTPException):
            return False
        return answer.status == 200

    def completes(self, *, timeout_seconds: float = READY_TIMEOUT_SECONDS) -> bool:
        """Return whether the engine answers a one-token completion; /health only says that it is alive."""
        request = {"model": self._model, "prompt": "a", "max_tokens": 1, "temperature": 0}
        try:
            answer = fetch(
                self._host,
                self._port,
                "POST",
                "/v1/completions",
                body=json.dumps(request).encode(),
                headers=self._headers,
                timeout_seconds=timeout_seconds,
            )
            return answer.status == 200 and bool(json.loads(answer.body)["choices"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return False

    def load(self) -> Load:
        """Read the engine's count of requests. Raises EngineAnswerError."""
        return parse_load(self._metrics(METRICS_TIMEOUT_SECONDS))

    def vitals(self, *, timeout_seconds: float) -> Vitals:
        """Read what shows that the engine works. Raises EngineAnswerError."""
        return parse_vitals(self._metrics(timeout_seconds))

    def _metrics(self, timeout_seconds: float) -> str:
        try:
            answer = fetch(self._host, self._port, "GET", "/metrics", timeout_seconds=timeout_seconds)
        except (OSError, http.client.HTTPException) as err:
            raise EngineAnswerError(f"/metrics: {err}") from err
        if answer.status != 200:
            raise EngineAnswerError(f"/metrics answered {answer.status}")
        return answer.body.decode("utf-8", "replace")


def parse_load(metrics: str) -> Load:
    """Return the load in a Prometheus text. Raises EngineAnswerError when vLLM's gauges are not in it."""
    sums = _sums(metrics)
    missing = {_RUNNING, _WAITING} - sums.keys()
    if missing:
        raise EngineAnswerError(f"/metrics lacks {', '.join(sorted(missing))}")
    return Load(
        running=int(sums[_RUNNING]), waiting=int(sums[_WAITING]), finished=int(sums.get(_FINISHED, 0))
    )


def parse_vitals(metrics: str) -> Vitals:
    """Return the vitals in a Prometheus text. Raises EngineAnswerError when vLLM's gauges are not in it."""
    load, sums = parse_load(metrics), _sums(metrics)
    return Vitals(
        tokens=sum(sums.get(name, 0) for name in _TOKENS),
        finished=load.finished,
        kv_cache=sums.get(_KV_CACHE, 0),
    )


def _sums(metrics: str) -> dict[str, float]:
    """Return each of vLLM's series by its name, summed over its labels; of finished requests the answered."""
    sums: dict[str, float] = {}
    for name, labels, value in _series(metrics):
        if name == _FINISHED:
            reason = _FINISHED_REASON.search(labels)
            if reason is not None and reason.group(1) in _UNFINISHED:
                continue
        sums[name] = sums.get(name, 0.0) + value
    return sums


def _series(metrics: str) -> Iterator[tuple[str, str, float]]:
    for line in metrics.splitlines():
        if line.startswith("vllm:"):
            series, _, number = line.rpartition(" ")
            name, _, labels = series.partition("{")
            if name in _READ:
                yield name, labels, _number(number, line)


def _number(text: str, line: str) -> float:
    try:
        number = float(text)
    except ValueError as err:
        raise EngineAnswerError(f"/metrics has no number in {line!r}") from err
    # Prometheus' text may hold them; a count is neither, and nothing can be compared with NaN.
    if not math.isfinite(number):
        raise EngineAnswerError(f"/metrics has no finite number in {line!r}")
    return number
