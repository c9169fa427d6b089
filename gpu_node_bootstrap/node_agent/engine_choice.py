"""Which engine the settings ask for."""

from __future__ import annotations

from .container_engine import ContainerEngine
from .engine import Engine
from .log import Log
from .process_engine import ProcessEngine
from .settings import EngineKind, Settings
from .state import assert_never


def make_engine(settings: Settings, log: Log) -> Engine:
    """Return the engine that the settings name, not yet started."""
    if settings.engine is EngineKind.PROCESS:
        return ProcessEngine(settings.engine_command, log=log)
    if settings.engine is EngineKind.CONTAINER:
        return ContainerEngine(settings, log=log)
    return assert_never(settings.engine)
