"""Network links of a stated bandwidth: a server of nothing but bytes, and a proxy before another server."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

MEGABYTE = 1_000_000
_CHUNK = 64 * 1024


class Link:
    """A bandwidth that all connections over it share. Thread-safe."""

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def take(self, size: int) -> None:
        """Return when the link has carried `size` more bytes."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self.bytes_per_second
            carried_at = self._free_at
        time.sleep(max(0.0, carried_at - time.monotonic()))


class ByteServer:
    """Answers GET /N with N bytes. A context manager that serves inside it."""

    def __init__(self, link: Link) -> None:
        handler = type("Handler", (_Handler,), {"link": link})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ByteServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    link: Link

    def do_GET(self) -> None:
        left = int(self.path.strip("/"))
        self.send_response(200)
        self.send_header("Content-Length", str(left))
        self.end_headers()
        with contextlib.suppress(OSError):
            while left:
                piece = min(left, _CHUNK)
                self.link.take(piece)
                self.wfile.write(bytes(piece))
                left -= piece

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing: the bench has a table."""


class Proxy:
    """Passes connections on to a server whose answers come over a link. A context manager."""

    def __init__(self, link: Link, *, host: str, port: int) -> None:
        self._link = link
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://localhost:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._target) as server:
            up = threading.Thread(target=_pass_on, args=(client, server, lambda _: None), daemon=True)
            up.start()
            _pass_on(server, client, self._link.take)


def _pass_on(source: socket.socket, sink: socket.socket, take: Callable[[int], None]) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_CHUNK):
            take(len(piece))
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
