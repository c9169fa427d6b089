"""HTTP with a limit on the whole exchange: a peer that hangs or trickles costs that long and no longer."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass

MAX_BODY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    body: bytes


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
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        chunks: list[bytes] = []
        size = 0
        while chunk := response.read1(65536):
            chunks.append(chunk)
            size += len(chunk)
            if time.monotonic() > ends_at:
                raise TimeoutError(f"{method} {path} took more than {timeout_seconds:g} s")
            if size > MAX_BODY_BYTES:
                raise http.client.HTTPException(f"{method} {path} answered more than {MAX_BODY_BYTES} bytes")
        return Answer(response.status, b"".join(chunks))
    finally:
        connection.close()
