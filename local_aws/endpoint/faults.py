"""Faults put into the API on purpose: an action fails, or is slow, a number of times or always."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.world import World


@dataclass
class Fault:
    """`left` is how many more calls it hits; None: all."""

    action: str
    error: str
    left: int | None
    delay_seconds: float
    role: str | None


class Faults:
    """The faults there are; the first that fits a call hits it. Operators' calls are never hit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def hit(self, action: str, role: str) -> Fault | None:
        """Return the fault that hits this call of a role, and count it."""
        with self._lock:
            for fault in self._faults:
                if fault.left == 0 or (fault.role is not None and fault.role not in role):
                    continue
                if fnmatch.fnmatchcase(action.lower(), fault.action.lower()):
                    if fault.left is not None:
                        fault.left -= 1
                    return fault
        return None

    def add(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Add a fault; see `Control.inject_fault`."""
        fault = Fault(
            action=str(given["action"]),
            error=str(given.get("error") or ""),
            left=None if given.get("count") is None else int(given["count"]),
            delay_seconds=float(given.get("delay_seconds") or 0.0),
            role=given.get("role"),
        )
        if ":" not in fault.action:
            raise ValueError(f"an action is service:Operation, not {fault.action!r}")
        if not fault.error and not fault.delay_seconds:
            raise ValueError("a fault needs an error, a delay, or both")
        with self._lock:
            self._faults.append(fault)
        return {"faults": len(self._faults)}

    def clear(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()
        return {"faults": 0}


def install(world: World) -> Faults:
    """Serve the fault routes."""
    faults = Faults()
    world.route("POST", "faults", faults.add)
    world.route("DELETE", "faults", faults.clear)
    return faults
