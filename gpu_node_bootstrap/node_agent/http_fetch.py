"""HTTP with a limit on the whole exchange: a peer that hangs or trickles costs that long and no longer."""

from __future__ import annotations

import functools
import http.client
import io
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_BODY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    body: bytes


class _Deadlined(io.RawIOBase):
    """A socket's input in which each read may take what is left of the whole, and no more."""

    def __init__(self, connection: socket.socket, ends_at: float) -> None:
        super().__init__()
        self._connection = connection
        self._input = connection.makefile("rb", buffering=0)
        self._ends_at = ends_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._connection.settimeout(left)
        return self._input.readinto(buffer)

    def close(self) -> None:
        self._input.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, ends_at: float, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp.close()
        self.fp = io.BufferedReader(_Deadlined(sock, ends_at))


def fetch(
    host: str,
    port: int,
    method: str,
    path: str,
    *,
    timeout_seconds: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request and return its answer.

    Raises OSError or http.client.HTTPException, TimeoutError among them when the exchange takes too long.
    """
    ends_at = time.monotonic() + timeout_seconds
    connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    connection.response_class = functools.partial(_Response, ends_at=ends_at)  # type: ignore[assignment]
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        chunks: list[bytes] = []
        size = 0
        while chunk := response.read1(65536):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise http.client.HTTPException(f"{method} {path} answered more than {MAX_BODY_BYTES} bytes")
        return Answer(response.status, b"".join(chunks))
    finally:
        connection.close()
