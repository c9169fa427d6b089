"""What the engine needs before it starts: image, weights, compile cache and keys, fetched side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .boot import BootRecord
from .log import Log
from .settings import Settings


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
    """Gets the engine's needs onto the node. `run` once; then `refresh` before each later start of the engine."""

    def __init__(self, settings: Settings, *, boot: BootRecord, log: Log) -> None:
        self._settings = settings
        self._boot = boot
        self._log = log

    def run(self) -> Prepared:
        """Fetch everything and return it. Begins and ends its phases. Raises PreparationError."""
        return Prepared(self._settings.model)

    def refresh(self, prepared: Prepared) -> Prepared:
        """Return `prepared` with credentials that last; to be called before an engine is started again.

        Returns at once where nothing expires. Raises PreparationError.
        """
        return prepared

    def stop(self) -> None:
        """End at once what runs, from any thread; `run` then raises. No process is left."""

    def save_compile_cache(self) -> None:
        """Store what the engine compiled, unless the fleet has it already. Blocks; never raises."""
