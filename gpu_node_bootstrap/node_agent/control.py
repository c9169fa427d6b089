"""Commands to the agent, over a socket that root alone may open: a JSON line there, a JSON line back."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .errors import ControlError

MAX_REQUEST_BYTES = 64 * 1024
READ_SECONDS = 5.0
# bind(2) takes 107 bytes; a longer path goes by its directory's file descriptor.
_LONGEST_PATH = 100


class ControlServer:
    """Answers each request with what `handle` returns for it; a ControlError becomes the answer's `error`."""

    def __init__(self, path: str, handle: Callable[[Mapping[str, Any]], Mapping[str, object]]) -> None:
        """Bind at once. Raises ControlError when another agent listens there."""
        self._path = path
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._remove_stale()
        before = os.umask(0o177)
        try:
            with _short(path) as address:
                self._server = _Server(address, _Handler)
        finally:
            os.umask(before)
        self._server.handle = handle

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="control", daemon=True).start()

    def close(self, *, grace_seconds: float) -> None:
        """Take no more requests, and let those that wait for the same end as the agent have their answer."""
        self._server.shutdown()
        ends_at = time.monotonic() + grace_seconds
        while self._server.busy > 0 and time.monotonic() < ends_at:
            time.sleep(0.02)
        self._server.server_close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)

    def _remove_stale(self) -> None:
        if not os.path.exists(self._path):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, _short(self._path) as address:
            try:
                probe.connect(address)
            except OSError:
                os.unlink(self._path)
                return
        raise ControlError(f"another agent listens on {self._path}")


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    handle: Callable[[Mapping[str, Any]], Mapping[str, object]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._busy_lock = threading.Lock()
        self.busy = 0

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._busy_lock:
            self.busy += 1
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._busy_lock:
                self.busy -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's own
        # A command line that was interrupted; the drain that it asked for goes on.
        return


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    timeout = READ_SECONDS

    def handle(self) -> None:
        try:
            answer = {"ok": True, **self.server.handle(_parsed(self.rfile.readline(MAX_REQUEST_BYTES)))}
        except (ControlError, ValueError) as err:
            answer = {"ok": False, "error": str(err)}
        self.wfile.write((json.dumps(answer) + "\n").encode())


def _parsed(line: bytes) -> dict[str, Any]:
    request = json.loads(line)
    if not isinstance(request, dict):
        raise ControlError("a request is a JSON object")
    return request


def ask(path: str, request: Mapping[str, object], *, connect_seconds: float) -> dict[str, Any]:
    """Send a request to the agent and wait for its answer, for as long as the agent takes.

    An agent that is not there yet may come within `connect_seconds`. Raises ControlError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        _connect(connection, path, time.monotonic() + connect_seconds)
        connection.sendall((json.dumps(request) + "\n").encode())
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        raise ControlError("the agent ended before it answered")
    answer: dict[str, Any] = json.loads(line)
    if not answer.pop("ok"):
        raise ControlError(answer["error"])
    return answer


def _connect(connection: socket.socket, path: str, ends_at: float) -> None:
    while True:
        try:
            with _short(path) as address:
                return connection.connect(address)
        except OSError as err:
            if time.monotonic() >= ends_at or isinstance(err, PermissionError):
                raise ControlError(f"no agent on {path}: {err}") from err
            time.sleep(0.1)


@contextlib.contextmanager
def _short(path: str) -> Iterator[str]:
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield path
        return
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{os.path.basename(path)}"
    finally:
        os.close(directory)
