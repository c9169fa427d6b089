"""The engine as the agent sees it, whether a container or a process group."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .preparation import Prepared
from .settings import EngineKind


class Engine(ABC):
    """One vLLM engine. Any thread may call `terminate` and `kill`, in any state, any number of times."""

    kind: EngineKind

    @abstractmethod
    def start(self, prepared: Prepared) -> None:
        """Start the engine and return at once. Raises EngineError. To be called once."""

    @abstractmethod
    def exit_status(self) -> int | None:
        """Return the status that the engine ended with, None while it starts or runs."""

    def end_reason(self) -> str:
        """Return why an engine that nobody asked to end has ended, as far as it told."""
        return f"the engine ended by itself with status {self.exit_status()}"

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

    @abstractmethod
    def log_tail(self, lines: int) -> list[str]:
        """Return the last lines that the engine wrote, for a diagnosis; of an engine that ended, too."""
