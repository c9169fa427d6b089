"""A server that answers like an engine, or like a broken one, for the demo's clients."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class ScriptedEngine(ThreadingHTTPServer):
    """Answers each POST with the next step of `script`; the last step repeats."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[str] = ["whole"]
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def next_step(self) -> str:
        with self.lock:
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedEngine

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(asked)
        step = self.server.next_step()
        if step == "unavailable":
            self._whole(503, {"error": {"message": "no node"}})
        elif asked.get("stream"):
            self._stream(asked, step)
        else:
            self._whole(200, self._object(asked, step))

    def _object(self, asked: dict[str, Any], step: str) -> dict[str, Any]:
        tokens = asked["max_tokens"] - (1 if step == "short" else 0)
        text = "" if step == "empty" else "x" * tokens
        reason = "abort" if step == "abort" else "length"
        body = {"text": text} if "prompt" in asked else {"message": {"role": "assistant", "content": text}}
        return {
            "id": "1",
            "object": "o",
            "created": 1,
            "model": asked["model"],
            "choices": [{"index": 0, "finish_reason": reason, **body}],
            "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1},
        }

    def _whole(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, asked: dict[str, Any], step: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        whole = self._object(asked, step)
        choice, usage = whole["choices"][0], whole.pop("usage")
        text = choice["text"] if "prompt" in asked else choice["message"]["content"]
        for place, letter in enumerate(text):
            self._chunk(whole, letter, "prompt" in asked, None)
            if step == "dies" and place == len(text) // 2:
                return
        if step == "no_finish":
            return
        self._chunk(whole, "", "prompt" in asked, choice["finish_reason"])
        self.wfile.write(b"data: " + json.dumps({**whole, "choices": [], "usage": usage}).encode() + b"\n\n")
        if step != "no_done":
            self.wfile.write(b"data: [DONE]\n\n")

    def _chunk(self, whole: dict[str, Any], letter: str, plain: bool, reason: str | None) -> None:
        body = {"text": letter} if plain else {"delta": {"content": letter}}
        data = {**whole, "choices": [{"index": 0, "finish_reason": reason, **body}]}
        self.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    server = ScriptedEngine()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
