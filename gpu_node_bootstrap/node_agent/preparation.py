"""What the engine needs before it starts: image, weights, compile cache and key, fetched side by side."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Callable

from .boot import BootRecord, Phase
from .commands import Commands
from .compile_cache import CompileCache, cache_root
from .container_user import CONTAINER_USER
from .errors import CommandError, PreparationError
from .image import fetch_image
from .log import Log
from .settings import EngineKind, Settings
from .weights import CALL_SECONDS, FRESH_SECONDS, Weights, fetch_weights, lend_credentials

KEY_TRIES = 5


@dataclass(frozen=True)
class Prepared:
    """What an engine is started with, beyond the settings."""

    model: str
    """What vLLM is given as its model: a hub id, a path that it sees, or `s3://...`."""
    engine_args: tuple[str, ...] = ()
    """Further arguments for vLLM, before the fleet's own."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For the engine alone. May hold secrets: never on a command line, never in a log."""
    api_key: str | None = field(default=None, repr=False)
    """What the engine asks its callers for; None: nothing."""


class Preparation:
    """Fetches what the engine needs: `run` once, then `refresh` before each later start of the engine."""

    def __init__(self, settings: Settings, *, boot: BootRecord, log: Log) -> None:
        self._settings = settings
        self._boot = boot
        self._log = log
        self._commands = Commands()
        self._cache = CompileCache(
            settings,
            root=cache_root(settings),
            owner=CONTAINER_USER if settings.engine is EngineKind.CONTAINER else None,
            commands=self._commands,
            log=log,
        )
        self._lock = threading.Lock()
        self._error: PreparationError | None = None
        self._legs_left: Counter[Phase] = Counter()
        self._details: dict[Phase, dict[str, Any]] = {}
        self._weights = Weights(settings.model)
        self._api_key: str | None = None

    def run(self) -> Prepared:
        """Fetch everything and return it. Begins and ends its phases. Raises PreparationError.

        The API key takes a call and has no phase of its own: it counts, and fails, as a part of the weights,
        the other thing that the engine cannot serve without and that AWS may refuse.
        """
        legs = (
            (Phase.IMAGE, self._fetch_image),
            (Phase.WEIGHTS, self._fetch_weights),
            (Phase.WEIGHTS, self._fetch_api_key),
            (Phase.COMPILE_CACHE, self._cache.restore),
        )
        for phase, _ in legs:
            self._boot.begin(phase)
        self._legs_left = Counter(phase for phase, _ in legs)
        threads = [
            threading.Thread(target=self._leg, args=leg, name=leg[0].value, daemon=True) for leg in legs
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error
        return self._prepared()

    def refresh(self, prepared: Prepared) -> Prepared:
        """Return `prepared` with credentials that last; to be called before an engine is started again.

        Returns at once where nothing ends soon. Raises PreparationError.
        """
        expires_at = self._weights.expires_at
        if expires_at is None or expires_at - time.time() > FRESH_SECONDS:
            return prepared
        try:
            environment, expires_at = lend_credentials(self._settings, commands=self._commands)
        except CommandError as err:
            raise PreparationError(Phase.WEIGHTS, f"no credentials for the weights: {err}") from err
        self._weights = replace(self._weights, environment=environment, expires_at=expires_at)
        return self._prepared()

    def stop(self) -> None:
        """End at once what runs, from any thread; `run` then raises. No process is left."""
        self._commands.stop()

    def save_compile_cache(self) -> None:
        """Store what the engine compiled, unless the fleet has it already. Blocks; never raises."""
        self._cache.save()

    def _prepared(self) -> Prepared:
        weights, environment = self._weights, dict(self._weights.environment)
        if self._api_key is not None:
            environment["VLLM_API_KEY"] = self._api_key
        return Prepared(weights.model, weights.engine_args, environment, self._api_key)

    def _leg(self, phase: Phase, fetch: Callable[[], Mapping[str, Any]]) -> None:
        try:
            detail = fetch()
        except Exception as err:
            # A mistake of the agent's own ends the boot, too, and not this thread alone.
            reason = str(err) if isinstance(err, CommandError) else f"the agent failed: {err!r}"
            with self._lock:
                if self._error is None:
                    self._error = PreparationError(phase, reason)
            self._commands.stop()
            return
        with self._lock:
            self._legs_left[phase] -= 1
            known = self._details.setdefault(phase, {})
            known.update(detail)
            ended = self._legs_left[phase] == 0
        if ended:
            self._boot.end(phase, **known)

    def _fetch_image(self) -> Mapping[str, object]:
        if self._settings.engine is EngineKind.PROCESS:
            return {"source": "none"}
        return fetch_image(self._settings.image, commands=self._commands, log=self._log)

    def _fetch_weights(self) -> Mapping[str, object]:
        self._weights = fetch_weights(self._settings, commands=self._commands, log=self._log)
        return self._weights.detail

    def _fetch_api_key(self) -> Mapping[str, object]:
        secret, region = self._settings.api_key_secret, self._settings.region
        if not secret:
            return {}
        read = ("secretsmanager", "get-secret-value", "--secret-id", secret)
        shown = ("--query", "SecretString", "--output", "text")
        try:
            key = self._commands.tried(
                lambda: self._commands.aws(*read, *shown, region=region, timeout_seconds=CALL_SECONDS),
                tries=KEY_TRIES,
            ).strip()
        except CommandError as err:
            raise CommandError(f"the API key cannot be read: {err}") from err
        # One line, as an env file takes it, in ASCII, as a header does; "None" is how the command line writes
        # a secret without text.
        if not key or key == "None" or not key.isascii() or not key.isprintable():
            raise CommandError("the API key's secret is not one line of ASCII text")
        self._api_key = key
        return {}
