"""What the load balancer and the operator read: `/healthz` and `/status` over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

READ_SECONDS = 5.0


class HealthServer:
    """Serves from threads of its own, so that it answers whatever the rest of the agent waits for."""

    def __init__(self, *, host: str, port: int, status: Callable[[], Mapping[str, object]]) -> None:
        """Bind at once, so that a port in use ends the agent. Raises OSError."""
        self._server = _Server((host, port), _Handler)
        self._server.status = status
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True).start()

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    status: Callable[[], Mapping[str, object]]

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's own
        # A checker that hangs up is none of the log's business.
        return


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_SECONDS
    server_version = "spot-failover-agent"
    sys_version = ""

    def do_GET(self) -> None:
        status = self.server.status()
        if self.path == "/status":
            self._answer(200, status)
        elif self.path == "/healthz":
            ready = status["state"] == "ready"
            self._answer(200 if ready else 503, {"state": status["state"], "reason": status["reason"]})
        else:
            self._answer(404, {"error": "only /healthz and /status are here"})

    def _answer(self, code: int, content: Mapping[str, object]) -> None:
        body = (json.dumps(content) + "\n").encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ARG002 - the base class's own
        # Two checks every five seconds would bury the log.
        return
