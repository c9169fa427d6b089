"""What the agent reads from vLLM's metrics, and how long it waits for them."""

from __future__ import annotations

import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpu_node_bootstrap.node_agent.errors import EngineAnswerError
from gpu_node_bootstrap.node_agent.vllm_api import EngineApi, Load, Vitals, parse_load, parse_vitals

# From vLLM 0.32.0's own /metrics, with a second engine core added.
METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a } b"} 2.0
vllm:num_requests_running{engine="1",model_name="a } b"} 1.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a } b"} 4.0
vllm:num_requests_waiting{engine="1",model_name="a } b"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="a } b",reason="capacity"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="a } b"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a } b"} 0.5
vllm:prompt_tokens_total{engine="0",model_name="a } b"} 100.0
vllm:prompt_tokens_by_source_total{engine="0",model_name="a } b",source="local"} 100.0
vllm:generation_tokens_total{engine="1",model_name="a } b"} 11.0
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="a } b"} 10.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="a } b"} 5.0
vllm:request_success_total{engine="1",finished_reason="repetition",model_name="a } b"} 1.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="a } b"} 100.0
vllm:request_success_total{engine="0",finished_reason="error",model_name="a } b"} 100.0
vllm:request_success_created{engine="0",finished_reason="stop",model_name="a } b"} 1.7954429965495422e+09
python_gc_objects_collected_total{generation="0"} 9999.0
"""


def test_requests_are_summed_over_cores_and_only_answered_ones_count_as_finished() -> None:
    assert parse_load(METRICS) == Load(running=3, waiting=4, finished=16)


def test_what_an_engine_works_on_shows_in_its_vitals() -> None:
    assert parse_vitals(METRICS) == Vitals(tokens=111, finished=16, kv_cache=0.75)


def test_the_project_reads_what_prometheus_own_parser_reads() -> None:
    samples = [sample for family in text_string_to_metric_families(METRICS) for sample in family.samples]
    running = sum(sample.value for sample in samples if sample.name == "vllm:num_requests_running")
    assert parse_load(METRICS).running == running


@pytest.mark.parametrize(
    "text", ["", "<html>", METRICS.replace("num_requests_waiting{", "gone{"), "vllm:num_requests_running x"]
)
def test_metrics_that_are_not_vllms_are_no_reading_and_never_idle(text: str) -> None:
    with pytest.raises(EngineAnswerError):
        parse_load(text)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
@pytest.mark.parametrize(
    "name", ["vllm:num_requests_running", "vllm:request_success_total", "vllm:kv_cache_usage_perc"]
)
def test_what_is_no_finite_number_is_no_reading(name: str, value: str) -> None:
    with pytest.raises(EngineAnswerError, match="no finite number"):
        parse_vitals(f"{METRICS}\n{name}{{}} {value}\n")


def test_what_nobody_looks_at_may_hold_anything() -> None:
    assert parse_vitals(f"{METRICS}\nvllm:a_later_releases_ratio{{}} NaN\n") == parse_vitals(METRICS)


@pytest.mark.parametrize(
    "trickle", [b"", b"HTTP/1.1 200 OK\r\nX-Trickle: x", b"HTTP/1.1 200 OK\r\n\r\n" + b"x"]
)
def test_an_engine_that_hangs_or_trickles_costs_no_more_than_the_timeout(
    kit: Any, monkeypatch: pytest.MonkeyPatch, trickle: bytes
) -> None:
    monkeypatch.setattr("gpu_node_bootstrap.node_agent.vllm_api.METRICS_TIMEOUT_SECONDS", 0.3)
    with socket.create_server((kit.HOST, 0)) as server:
        threading.Thread(target=_trickle, args=(server, trickle), daemon=True).start()
        api = EngineApi(host=kit.HOST, port=server.getsockname()[1], served_model_name="tiny")
        started = time.monotonic()
        with pytest.raises(EngineAnswerError):
            api.load()
        assert time.monotonic() - started < 1


def _trickle(server: socket.socket, opening: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        try:
            connection.sendall(opening)
            for _ in range(40):
                time.sleep(0.05)
                if opening:
                    connection.sendall(b"x")
        except OSError:
            return


class KeyedEngine(BaseHTTPRequestHandler):
    """Guards its completions and nothing else, as vLLM does with --api-key."""

    def do_GET(self) -> None:
        self._answer(200 if self.path == "/health" else 404)

    def do_POST(self) -> None:
        self._answer(200 if self.headers["Authorization"] == "Bearer the key" else 401)

    def _answer(self, status: int) -> None:
        body = b'{"choices": [{}]}'
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        return


def test_an_engine_with_a_key_is_asked_with_it(kit: Any) -> None:
    with ThreadingHTTPServer((kit.HOST, 0), KeyedEngine) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        api = EngineApi(host=kit.HOST, port=server.server_address[1], served_model_name="tiny")
        api.use_key(None)
        assert api.answers()
        assert not api.completes()
        api.use_key("the key")
        assert api.completes()
        server.shutdown()


def test_an_engine_that_has_not_started_does_not_answer(kit: Any) -> None:
    api = EngineApi(host=kit.HOST, port=kit.free_port(), served_model_name="tiny")
    assert not api.answers()
    assert not api.completes()


def test_agent_and_engine_need_no_third_party_package() -> None:
    agent = Path(__file__).parents[3] / "gpu_node_bootstrap" / "node_agent"
    imported = {
        line.split()[1].split(".")[0]
        for module in agent.glob("*.py")
        for line in module.read_text().splitlines()
        if line.startswith(("import ", "from ")) and not line.startswith("from .")
    }
    assert imported <= sys.stdlib_module_names
