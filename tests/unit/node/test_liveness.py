"""Hung, idle or busy: what a look at an engine makes of it."""

from __future__ import annotations

import io
import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import liveness
from gpu_node_bootstrap.node_agent.liveness import Liveness, Signs, Verdict, judge
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.vllm_api import EngineApi

HANG = 30.0


@pytest.mark.parametrize(
    ("silent", "moved", "answered"),
    [*itertools.product((0.0, 29.9, 30.0, 1e6), (True, False), (True, False, None))],
)
def test_an_engine_hangs_only_when_it_neither_worked_nor_answered_for_the_whole_time(
    silent: float, moved: bool, answered: bool | None
) -> None:
    verdict = judge(Signs(silent_seconds=silent, hang_seconds=HANG, moved=moved, answered=answered))
    if moved or answered:
        assert verdict is Verdict.ALIVE
    elif answered is None:
        assert verdict is Verdict.ASK
    else:
        assert verdict is (Verdict.HUNG if silent >= HANG else Verdict.WAIT)


class ScriptedEngine:
    """An engine whose counters and answers a test decides."""

    def __init__(self, host: str) -> None:
        self.tokens = 0
        self.kv_cache = 0.0
        self.working = False
        self.metrics_delay = 0.0
        self.completes = True
        self.probes = 0
        self.release = threading.Event()
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                time.sleep(engine.metrics_delay)
                engine.tokens += engine.working
                lines = [
                    "vllm:num_requests_running{} 1",
                    "vllm:num_requests_waiting{} 500",
                    f"vllm:generation_tokens_total{{}} {engine.tokens}",
                    f"vllm:kv_cache_usage_perc{{}} {engine.kv_cache}",
                ]
                self._answer("\n".join(lines).encode())

            def do_POST(self) -> None:
                engine.probes += 1
                if not engine.completes:
                    engine.release.wait()
                engine.tokens += 1
                self._answer(b'{"choices": [1]}')

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        # A client that gave up is what these tests are about.
        self._server.handle_error = lambda *_arguments: None  # type: ignore[method-assign]
        self.api = EngineApi(host=host, port=self._server.server_address[1], served_model_name="tiny")
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def engine(kit: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedEngine]:
    monkeypatch.setattr(liveness, "LEAST_ANSWER_SECONDS", 0.1)
    scripted = ScriptedEngine(kit.HOST)
    yield scripted
    scripted.close()


def watch(engine: ScriptedEngine, *, hang_seconds: float = 0.3) -> Liveness:
    watched = Liveness(
        engine.api, probe_seconds=0.05, hang_seconds=hang_seconds, log=Log(stream=io.StringIO())
    )
    watched.start()
    return watched


def test_an_idle_engine_proves_by_completions_that_it_lives(engine: ScriptedEngine) -> None:
    watched = watch(engine)
    assert not watched.hung.wait(0.8)
    watched.stop()
    assert engine.probes > 2


def test_a_busy_engine_whose_queue_would_swallow_a_probe_is_not_even_asked(
    engine: ScriptedEngine,
) -> None:
    engine.working, engine.completes = True, False
    watched = watch(engine)
    assert not watched.hung.wait(0.8)
    watched.stop()
    assert engine.probes == 0


def test_an_overloaded_engine_that_answers_late_but_works_lives(engine: ScriptedEngine) -> None:
    engine.working, engine.completes, engine.metrics_delay = True, False, 0.2
    watched = watch(engine, hang_seconds=0.8)
    assert not watched.hung.wait(1.6)
    watched.stop()


def test_a_long_prefill_that_yields_no_token_is_work(engine: ScriptedEngine) -> None:
    engine.completes = False
    watched = watch(engine)
    for step in range(12):
        engine.kv_cache = step / 100
        assert not watched.hung.wait(0.1)
    watched.stop()


def test_an_engine_that_does_nothing_and_answers_nothing_hangs_and_not_before_its_time(
    engine: ScriptedEngine,
) -> None:
    engine.completes = False
    began = time.monotonic()
    watched = watch(engine)
    assert watched.hung.wait(3)
    assert time.monotonic() - began >= 0.3
    assert watched.silent_seconds >= 0.3


def test_an_engine_that_does_not_even_tell_its_counters_hangs_too(engine: ScriptedEngine) -> None:
    engine.completes, engine.metrics_delay = False, 1
    assert watch(engine).hung.wait(3)


def test_a_watch_that_meets_what_nobody_foresaw_goes_on_and_finds_the_hang(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_arguments: object, **_named: object) -> None:
        raise OverflowError("cannot convert float infinity to integer")

    monkeypatch.setattr(engine.api, "vitals", breaks)
    assert watch(engine).hung.wait(3)


def test_a_stop_waits_for_the_probe_that_is_on_its_way_and_lets_no_other_go(
    kit: Any, engine: ScriptedEngine
) -> None:
    engine.completes = False
    watched = watch(engine, hang_seconds=30)
    kit.eventually(lambda: engine.probes)
    threading.Timer(0.2, engine.release.set).start()
    began = time.monotonic()
    watched.stop(grace_seconds=5)
    assert 0.1 < time.monotonic() - began < 2
    sent = engine.probes
    time.sleep(0.3)
    assert engine.probes == sent


def test_a_stop_waits_for_a_hung_probe_no_longer_than_its_grace(kit: Any, engine: ScriptedEngine) -> None:
    engine.completes = False
    watched = watch(engine, hang_seconds=30)
    kit.eventually(lambda: engine.probes)
    began = time.monotonic()
    watched.stop(grace_seconds=0.3)
    assert time.monotonic() - began < 1


def test_nobody_looks_where_hanging_is_not_to_be_watched(engine: ScriptedEngine) -> None:
    engine.completes = False
    assert not watch(engine, hang_seconds=0).hung.wait(0.3)
    assert engine.probes == 0
