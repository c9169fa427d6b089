"""The instance metadata service, version 2: who this node is, and whether EC2 is about to take it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from .errors import ImdsError
from .http_fetch import Answer, fetch
from .log import Log
from .times import parse_utc

# EC2 advises every 5 s; a notice's seconds are dear and a request costs nothing.
POLL_SECONDS = 2.0
TIMEOUT_SECONDS = 1.0
TOKEN_SECONDS = 21600
NOTICE_SECONDS = 120.0
_UNAUTHORIZED = 401
_NOT_FOUND = 404


@dataclass(frozen=True)
class SpotNotice:
    """EC2's word that it takes the node: what it will do, and when (epoch seconds)."""

    action: str
    deadline: float


def parse_instance_action(text: str, *, now: float) -> SpotNotice:
    """Read `spot/instance-action`. Raises ImdsError for what is not documented.

    The documentation shows a time with each action; one that came without would still mean the notice's 120 s
    (EC2 user guide, "Spot Instance interruption notices").
    """
    try:
        parsed = json.loads(text)
        action = str(parsed["action"])
        when = parsed.get("time")
        return SpotNotice(action, now + NOTICE_SECONDS if when is None else parse_utc(when))
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise ImdsError(f"spot/instance-action holds {text!r}") from err


class Imds:
    """The metadata service's client; keeps the token that version 2 asks for."""

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._host = parts.hostname or ""
        self._port = parts.port or 80
        self._token: str | None = None
        self._token_until = 0.0

    def instance_id(self) -> str:
        """Return the instance's id. Raises ImdsError."""
        found = self._get("/latest/meta-data/instance-id")
        if found is None:
            raise ImdsError("no instance-id")
        return found.strip()

    def local_ipv4(self) -> str:
        """Return the instance's primary private address. Raises ImdsError."""
        found = self._get("/latest/meta-data/local-ipv4")
        if found is None:
            raise ImdsError("no local-ipv4")
        return found.strip()

    def spot_notice(self) -> SpotNotice | None:
        """Return the notice that this node will be taken, None while there is none. Raises ImdsError."""
        found = self._get("/latest/meta-data/spot/instance-action")
        return None if found is None else parse_instance_action(found, now=time.time())

    def _get(self, path: str) -> str | None:
        answer = self._fetch("GET", path, {"X-aws-ec2-metadata-token": self._fresh_token()})
        if answer.status == _UNAUTHORIZED:
            self._token = None
        if answer.status == _NOT_FOUND:
            return None
        if answer.status != 200:
            raise ImdsError(f"{path} answered {answer.status}")
        return answer.body.decode("utf-8", "replace")

    def _fresh_token(self) -> str:
        if self._token is None or time.monotonic() > self._token_until:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
            answer = self._fetch("PUT", "/latest/api/token", lifetime)
            if answer.status != 200:
                raise ImdsError(f"/latest/api/token answered {answer.status}")
            self._token = answer.body.decode("ascii", "replace")
            self._token_until = time.monotonic() + TOKEN_SECONDS / 2
        return self._token

    def _fetch(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        try:
            return fetch(
                self._host, self._port, method, path, headers=headers, timeout_seconds=TIMEOUT_SECONDS
            )
        except (OSError, http.client.HTTPException) as err:
            raise ImdsError(f"{path}: {err}") from err


class ImdsWatcher(threading.Thread):
    """Learns the instance's id, then asks for a notice until told to stop. No failure ends it."""

    def __init__(
        self,
        imds: Imds,
        *,
        on_instance_id: Callable[[str], None],
        on_notice: Callable[[SpotNotice], None],
        log: Log,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        super().__init__(name="imds", daemon=True)
        self._imds = imds
        self._on_instance_id = on_instance_id
        self._on_notice = on_notice
        self._log = log
        self._poll_seconds = poll_seconds
        self._stop_asked = threading.Event()
        self._known_id = False
        self._last_error = ""

    def stop(self) -> None:
        """Stop asking."""
        self._stop_asked.set()

    def run(self) -> None:
        """Ask at each interval."""
        while not self._stop_asked.is_set():
            try:
                self._ask()
                self._last_error = ""
            except ImdsError as err:
                self._report(str(err))
            except Exception as err:
                self._report(repr(err))
            self._stop_asked.wait(self._poll_seconds)

    def _ask(self) -> None:
        if not self._known_id:
            instance_id = self._imds.instance_id()
            self._known_id = True
            self._on_instance_id(instance_id)
        notice = self._imds.spot_notice()
        if notice is not None:
            self._on_notice(notice)

    def _report(self, error: str) -> None:
        if error != self._last_error:
            self._log.warning("imds_unanswered", error=error)
        self._last_error = error
