"""Lambda's Runtime API: where the runtime client in a function's process asks for events and leaves answers.

Documented at https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html.
"""

from __future__ import annotations

import contextlib
import queue
import socketserver
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

PREFIX = "/2018-06-01/runtime"
ERROR_TYPE_HEADER = "Lambda-Runtime-Function-Error-Type"


@dataclass(frozen=True)
class Invocation:
    """One event on its way to the handler; `deadline` is epoch seconds."""

    request_id: str
    payload: bytes
    function_arn: str
    deadline: float


@dataclass(frozen=True)
class Answer:
    """A response (error is None), or an error with Lambda's type for it; `payload` is the body as it came."""

    error: str | None
    payload: bytes


class RuntimeApi:
    """The API of one execution environment, on a loopback port of its own."""

    def __init__(self) -> None:
        self.answers: queue.Queue[Answer] = queue.Queue()
        self.idle = threading.Event()
        """Set while the process waits for an event: its initialisation and its last event are done."""
        self._invocations: queue.Queue[Invocation | None] = queue.Queue()
        self._server = _Server(self)
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="runtime-api", daemon=True
        ).start()

    @property
    def address(self) -> str:
        """What AWS_LAMBDA_RUNTIME_API says."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    def send(self, invocation: Invocation) -> None:
        """Hand the process its next event."""
        self.idle.clear()
        self._invocations.put(invocation)

    def close(self) -> None:
        """Stop serving; a process that waits for an event sees its connection end."""
        self._invocations.put(None)
        self._server.shutdown()
        self._server.server_close()

    def next_invocation(self) -> Invocation | None:
        """Wait for the next event; None when there will be none."""
        self.idle.set()
        return self._invocations.get()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, api: RuntimeApi) -> None:
        self.api = api
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path != f"{PREFIX}/invocation/next":
            self.send_error(404)
            return
        invocation = self.server.api.next_invocation()
        if invocation is None:
            self.close_connection = True
            return
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Sampled=0",
        }
        self._reply(200, invocation.payload, headers)

    def do_POST(self) -> None:
        body = self._body()
        error = self.headers.get(ERROR_TYPE_HEADER)
        if self.path == f"{PREFIX}/init/error":
            self.server.api.answers.put(Answer(error or "Runtime.InitError", body))
        elif self.path.endswith("/response"):
            self.server.api.answers.put(Answer(None, body))
        elif self.path.endswith("/error"):
            self.server.api.answers.put(Answer(error or "Unhandled", body))
        else:
            self.send_error(404)
            return
        self._reply(202, b'{"status":"OK"}', {})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        # A process that died while it waited must not take this thread down with a traceback.
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json"}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: invocations are in the timeline."""
