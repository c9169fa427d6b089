"""Every API call there was: by whom, on what, with what result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from local_aws.journal import Journal
from local_aws.world import World


class CallLog:
    """All calls of one local AWS, in the order they ended. Thread-safe.

    An entry: at (epoch seconds), role (None for an operator), session, action ("ssm:SendCommand"), resources
    (ARNs; empty where the action has none), result ("ok" or an error code), seconds, and by: "api", or the
    service that made the call with the role (Lambda polls queues and writes logs so).
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._journal = Journal()

    def record(
        self,
        *,
        action: str,
        resources: Sequence[str],
        result: str,
        role: str | None,
        session: str | None = None,
        seconds: float = 0.0,
        by: str = "api",
    ) -> None:
        """Write one call down; those of roles are in the timeline, too."""
        entry: dict[str, Any] = {
            "action": action,
            "resources": list(resources),
            "result": result,
            "role": role,
            "session": session,
            "seconds": round(seconds, 4),
            "by": by,
        }
        self._journal.append({"at": time.time(), **entry})
        if role is not None and by == "api":
            self._world.timeline.record("api_call", **entry)

    def entries(self, given: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the calls, or those of the role whose name is, or contains, `given["role"]`."""
        entries = self._journal.since()
        role = given.get("role")
        if role is None:
            return entries
        exact = [entry for entry in entries if entry["role"] == role]
        return exact or [entry for entry in entries if entry["role"] and role in entry["role"]]


def install(world: World) -> CallLog:
    """Serve the calls."""
    calls = CallLog(world)
    world.route("GET", "calls", calls.entries)
    return calls
