"""The engine as the agent sees it, whether a container or a process group."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .log import Log
from .settings import EngineKind, Settings
from .state import assert_never


class Engine(ABC):
    """One vLLM engine. `terminate` and `kill` may be called from any thread, in any state, any number of times."""

    kind: EngineKind

    @abstractmethod
    def start(self) -> None:
        """Start the engine and return at once. Raises EngineError. To be called once."""

    @abstractmethod
    def exit_status(self) -> int | None:
        """Return the status that the engine ended with, None while it starts or runs."""

    @abstractmethod
    def terminate(self) -> None:
        """Ask the engine to end by SIGTERM, and return at once.

        vLLM then finishes what it accepted, within its --shutdown-timeout. While vLLM still starts this can
        deadlock it, so it is for an engine that has been ready; `kill` is for every other.
        """

    @abstractmethod
    def kill(self) -> None:
        """End everything of the engine at once, its cores and children with it; return when nothing is left.

        Takes at most a few seconds. Raises EngineError when something outlived it.
        """

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """Return what an operator needs to find the engine: process ids or the container's name."""


def make_engine(settings: Settings, log: Log) -> Engine:
    """Return the engine that the settings name, not yet started."""
    from .container_engine import ContainerEngine  # noqa: PLC0415 - it needs this module's class
    from .process_engine import ProcessEngine  # noqa: PLC0415

    if settings.engine is EngineKind.PROCESS:
        return ProcessEngine(settings.engine_command, log=log)
    if settings.engine is EngineKind.CONTAINER:
        return ContainerEngine.from_settings(settings, log=log)
    assert_never(settings.engine)
