"""What the load balancer reads over HTTP: `/healthz`. All else is told over the control socket alone."""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .errors import ImdsError
from .imds import Imds
from .log import Log
from .settings import AUTO_HOST
from .state import NodeState, StateView

READ_SECONDS = 5.0
CHECKER = "ELB-HealthChecker/"
"""How an Application Load Balancer's health checks name themselves: ELB-HealthChecker/2.0."""
ADDRESS_SECONDS = 4.0
"""For the metadata service to name the node's address; on EC2 it answers within milliseconds."""
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - a load balancer that cannot ask would replace the node
MOST_CONNECTIONS = 64
"""Each holds a thread for up to READ_SECONDS. A load balancer has a few nodes of its own that check."""
_SIOCGIFADDR = 0x8915


def resolve_host(host: str, imds: Imds, *, log: Log, within_seconds: float = ADDRESS_SECONDS) -> str:
    """Return `host` itself, or for `auto` the node's own private address.

    A metadata service that does not answer in time leaves only every address.
    """
    ends_at = time.monotonic() + within_seconds
    while host == AUTO_HOST:
        try:
            host = imds.local_ipv4()
        except ImdsError as err:
            if time.monotonic() >= ends_at:
                log.warning("health_host_unknown", error=str(err), listening_on=ANY_ADDRESS)
                return ANY_ADDRESS
            time.sleep(0.2)
    return host


def device_of(address: str) -> str | None:
    """Return the network interface whose own address this is (netdevice(7)), None where none has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            try:
                told = fcntl.ioctl(asked, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:
                continue  # It has no address.
            if socket.inet_ntoa(told[20:24]) == address:
                return name
    return None


class HealthServer:
    """Serves from threads of its own, so that it answers whatever the rest of the agent waits for."""

    def __init__(
        self, *, host: str, port: int, view: Callable[[], StateView], device: str | None = None
    ) -> None:
        """Bind at once, so that a port in use ends the agent. Raises OSError.

        With a `device` only what came in by it is answered. An address alone keeps nobody out: Linux takes
        what is sent to any of its addresses by whichever interface it comes, a container's bridge among them.
        """
        self._server = _Server((host, port), _Handler, bind_and_activate=False)
        self._server.view = view
        try:
            if device is not None:
                option = device.encode()
                self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, option)
            self._server.server_bind()
            self._server.server_activate()
        except OSError:
            self._server.server_close()
            raise
        self.port: int = self._server.server_address[1]

    @property
    def checked_at(self) -> float | None:
        """When a load balancer last asked, by the monotonic clock; None: it never did."""
        return self._server.checked_at

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True).start()

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    view: Callable[[], StateView]
    checked_at: float | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's own
        # A checker that hangs up is none of the log's business.
        return


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_SECONDS
    server_version = "spot-failover-agent"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path != "/healthz":
            return self._answer(404, {"error": "only /healthz is here"})
        if self.headers.get("User-Agent", "").startswith(CHECKER):
            self.server.checked_at = time.monotonic()
        view = self.server.view()
        ready = view.state is NodeState.READY
        return self._answer(200 if ready else 503, {"state": view.state.value, "reason": view.reason})

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
