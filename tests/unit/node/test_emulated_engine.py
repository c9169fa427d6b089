"""The emulated engine does what was measured on vLLM 0.32.0."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent.vllm_api import EngineApi
from local_aws.engines.commands import engine_command, engine_environment
from local_aws.engines.emulated_protocol import decode, encode


class Emulated:
    """A running emulated engine."""

    def __init__(self, kit: Any, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.api = EngineApi(host=kit.HOST, port=port, served_model_name="tiny")
        self._kit = kit
        self.pool = ThreadPoolExecutor(max_workers=8)

    def ask(self, method: str, path: str, body: Any = None, *, timeout: float = 10) -> tuple[int, Any, str]:
        connection = http.client.HTTPConnection(self._kit.HOST, self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read().decode()
            content = json.loads(text) if text.startswith("{") else text
            return answer.status, content, answer.headers["Server"]

    def complete(self, prompt: Any, tokens: int, *, timeout: float = 10, **more: Any) -> tuple[int, Any, str]:
        body = {"model": "tiny", "prompt": prompt, "max_tokens": tokens, **more}
        return self.ask("POST", "/v1/completions", body, timeout=timeout)


@pytest.fixture
def start(kit: Any, tmp_path: Any) -> Iterator[Any]:
    engines: list[Emulated] = []

    def started(*, shutdown_timeout: int = 30, start_seconds: float = 0.0, ready: bool = True) -> Emulated:
        port = kit.free_port()
        command = engine_command(
            "emulated",
            host=kit.HOST,
            port=port,
            shutdown_timeout=shutdown_timeout,
            start_seconds=start_seconds,
            tokens_per_second=200,
        )
        environment = engine_environment("emulated")
        process = subprocess.Popen([*command, "--exit-seconds", "0.2"], env=environment)
        engine = Emulated(kit, process, port)
        engines.append(engine)
        if ready:
            kit.eventually(engine.api.completes)
        return engine

    yield started
    for engine in engines:
        engine.process.kill()
        engine.process.wait()
        engine.pool.shutdown(wait=False, cancel_futures=True)


def test_it_names_itself_wherever_vllm_would(start: Any) -> None:
    engine = start()
    assert engine.ask("GET", "/version")[1] == {"version": "0.32.0+emulated"}
    _, models, server = engine.ask("GET", "/v1/models")
    assert "emulated" in models["data"][0]["owned_by"]
    assert "emulated" in server


def test_the_same_prompt_has_the_same_answer_and_a_prefix_goes_on_to_it(start: Any) -> None:
    engine = start()
    whole = engine.complete("Once upon a time", 40)[1]["choices"][0]["text"]
    assert engine.complete("Once upon a time", 40)[1]["choices"][0]["text"] == whole
    rest = engine.complete(encode("Once upon a time" + whole[:15]), 25, return_token_ids=True)[1]["choices"][
        0
    ]
    assert whole[:15] + rest["text"] == whole
    assert decode(rest["token_ids"]) == rest["text"]
    assert engine.complete("once upon a time", 40)[1]["choices"][0]["text"] != whole


def test_a_stream_ends_with_done_and_says_what_the_whole_answer_says(start: Any) -> None:
    engine = start()
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}
    whole = engine.ask("POST", "/v1/chat/completions", body)[1]["choices"][0]["message"]["content"]
    stream = engine.ask("POST", "/v1/chat/completions", {**body, "stream": True})[1]
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line]
    assert events[-1] == "[DONE]"
    parts = [json.loads(event)["choices"][0] for event in events[:-1]]
    assert "".join(part["delta"]["content"] for part in parts) == whole
    assert [part["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"model": "other"}, 404), ({"prompt": ""}, 400), ({"max_tokens": 0}, 400), ({"stop": ["x"]}, 400)],
)
def test_what_is_wrong_or_not_emulated_is_refused(start: Any, changes: dict[str, Any], status: int) -> None:
    engine = start()
    found, content, _ = engine.ask(
        "POST", "/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 1, **changes}
    )
    assert (found, content["error"]["code"]) == (status, status)


def test_a_client_that_hangs_up_is_counted_as_neither_in_flight_nor_finished(kit: Any, start: Any) -> None:
    engine = start()
    before = engine.api.load().finished
    with pytest.raises(TimeoutError):
        engine.complete("a", 5000, timeout=0.3)
    kit.eventually(lambda: engine.api.load().in_flight == 0)
    assert engine.api.load().finished == before


def test_with_time_to_shut_down_it_finishes_refuses_what_is_new_and_stays_healthy(
    kit: Any, start: Any
) -> None:
    engine = start(shutdown_timeout=30)
    running = engine.pool.submit(engine.complete, "a", 200)
    kit.eventually(lambda: engine.api.load().in_flight == 1)
    engine.process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    assert engine.ask("GET", "/health")[0] == 200
    status, content, _ = engine.complete("a", 1)
    assert (status, content["error"]["message"]) == (500, "cannot schedule new futures after shutdown")
    assert running.result()[0] == 200
    assert engine.process.wait(timeout=5) == 0


@pytest.mark.parametrize("shutdown_timeout", [0, 1])
def test_without_time_enough_it_hangs_in_silence_and_ignores_further_signals(
    kit: Any, start: Any, shutdown_timeout: int
) -> None:
    engine = start(shutdown_timeout=shutdown_timeout)
    running = engine.pool.submit(engine.complete, "a", 5000, timeout=shutdown_timeout + 1.5)
    kit.eventually(lambda: engine.api.load().in_flight == 1)
    engine.process.send_signal(signal.SIGTERM)
    kit.eventually(lambda: _refuses(engine), within=shutdown_timeout + 2)
    engine.process.send_signal(signal.SIGTERM)
    assert isinstance(running.exception(), TimeoutError), "no answer, no error, no end"
    assert engine.process.poll() is None


def _refuses(engine: Emulated) -> bool:
    try:
        engine.ask("GET", "/health")
    except ConnectionRefusedError:
        return True
    return False


def test_a_sigterm_during_its_start_deadlocks_it(kit: Any, start: Any) -> None:
    engine = start(start_seconds=60, ready=False)
    kit.eventually(lambda: _handles_sigterm(engine.process.pid), what="its imports done")
    engine.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert engine.process.poll() is None
    assert not engine.api.completes()


def _handles_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) & 1 << (signal.SIGTERM - 1))
