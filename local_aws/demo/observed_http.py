"""The SDK's own HTTP client, watched: which attempts it sent and how each body ended. It changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
from openai import DefaultHttpxClient

from local_aws.demo.answers import Attempt

_DONE = b"data: [DONE]"
_TAIL_BYTES = 64


class _TailedStream(httpx2.SyncByteStream):
    """Passes a body through and remembers its last bytes."""

    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream
        self.tail = b""

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            self.tail = (self.tail + chunk)[-_TAIL_BYTES:]
            yield chunk

    def close(self) -> None:
        self._stream.close()


class ObservedHttpClient(DefaultHttpxClient):
    """What `openai.OpenAI` uses by default, plus a memory of the attempts since the last `begin()`.

    The SDK calls `send` once for each attempt, its retries included. For one thread only.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._attempts: list[Attempt] = []
        self._body: _TailedStream | None = None

    def begin(self) -> None:
        """Forget what was seen: a new request begins."""
        self._attempts = []
        self._body = None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """The attempts since `begin()`, in order."""
        return tuple(self._attempts)

    @property
    def ended_with_done(self) -> bool:
        """Whether the last body ended with the event that ends a stream."""
        return self._body is not None and self._body.tail.rstrip().endswith(_DONE)

    def send(self, request: httpx2.Request, **kwargs: Any) -> httpx2.Response:
        """Send as the base class does, and remember the result."""
        at = time.time()
        try:
            response = super().send(request, **kwargs)
        except Exception as err:
            self._attempts.append(Attempt(at=at, error=type(err).__name__))
            raise
        self._attempts.append(Attempt(at=at, status=response.status_code))
        if isinstance(response.stream, httpx2.SyncByteStream) and not response.is_stream_consumed:
            self._body = _TailedStream(response.stream)
            response.stream = self._body
        return response
