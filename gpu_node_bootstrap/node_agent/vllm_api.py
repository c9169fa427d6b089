"""What the agent asks of vLLM: a completion that proves readiness, and its own count of requests."""

from __future__ import annotations

import http.client
import json
import re
from dataclasses import dataclass

from .errors import EngineAnswerError
from .http_fetch import fetch

READY_TIMEOUT_SECONDS = 10.0
METRICS_TIMEOUT_SECONDS = 2.0
# Neither an answer: the client went away, or the engine failed the request.
_UNFINISHED = frozenset({"abort", "error"})
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


class EngineApi:
    """The engine's HTTP side."""

    def __init__(self, *, host: str, port: int, served_model_name: str) -> None:
        self._host = host
        self._port = port
        self._model = served_model_name

    def completes(self) -> bool:
        """Return whether the engine answers a one-token completion; /health only says that it is alive."""
        request = {"model": self._model, "prompt": "a", "max_tokens": 1, "temperature": 0}
        try:
            answer = fetch(
                self._host,
                self._port,
                "POST",
                "/v1/completions",
                body=json.dumps(request).encode(),
                headers={"Content-Type": "application/json"},
                timeout_seconds=READY_TIMEOUT_SECONDS,
            )
            return answer.status == 200 and bool(json.loads(answer.body)["choices"])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return False

    def load(self) -> Load:
        """Read the engine's metrics. Raises EngineAnswerError."""
        try:
            answer = fetch(self._host, self._port, "GET", "/metrics", timeout_seconds=METRICS_TIMEOUT_SECONDS)
        except (OSError, http.client.HTTPException) as err:
            raise EngineAnswerError(f"/metrics: {err}") from err
        if answer.status != 200:
            raise EngineAnswerError(f"/metrics answered {answer.status}")
        return parse_load(answer.body.decode("utf-8", "replace"))


def parse_load(metrics: str) -> Load:
    """Return the load in a Prometheus text. Raises EngineAnswerError when vLLM's gauges are not in it."""
    sums = {"vllm:num_requests_running": 0.0, "vllm:num_requests_waiting": 0.0}
    seen: set[str] = set()
    finished = 0.0
    for line in metrics.splitlines():
        if not line.startswith("vllm:"):
            continue
        series, _, number = line.rpartition(" ")
        name = series.partition("{")[0]
        if name in sums:
            sums[name] += _number(number, line)
            seen.add(name)
        elif name == "vllm:request_success_total":
            reason = _FINISHED_REASON.search(series)
            if reason is None or reason.group(1) not in _UNFINISHED:
                finished += _number(number, line)
    missing = sums.keys() - seen
    if missing:
        raise EngineAnswerError(f"/metrics lacks {', '.join(sorted(missing))}")
    running, waiting = sums.values()
    return Load(running=int(running), waiting=int(waiting), finished=int(finished))


def _number(text: str, line: str) -> float:
    try:
        return float(text)
    except ValueError as err:
        raise EngineAnswerError(f"/metrics has no number in {line!r}") from err
