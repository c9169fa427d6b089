"""Where a node's words go beyond its own journal: the log group, the control plane, the group's health."""

from __future__ import annotations

from collections.abc import Callable

from .log import Log
from .log_shipper import LogShipper
from .reports import Reporter
from .settings import Settings
from .unhealthy import ReplacementRequest

FAREWELL_SECONDS = 5.0


class Outlets:
    """The three of them. None holds up the node, whatever AWS does."""

    def __init__(self, settings: Settings, *, instance_id: Callable[[], str | None], log: Log) -> None:
        self.shipper = LogShipper(settings, instance_id=instance_id, log=log)
        self.reporter = Reporter(settings, instance_id=instance_id, log=log)
        self.replacement = ReplacementRequest(settings, instance_id=instance_id, log=log)

    def start(self) -> None:
        """Send from now on."""
        self.shipper.start()
        self.reporter.start()

    def close(self) -> None:
        """Send what is left, each within its farewell; the log last, for the others write to it."""
        self.replacement.close(grace_seconds=FAREWELL_SECONDS)
        self.reporter.close(grace_seconds=FAREWELL_SECONDS)
        self.shipper.close(grace_seconds=FAREWELL_SECONDS)
