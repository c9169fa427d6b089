"""Faults put into the API on purpose: an action fails, or is slow, a number of times or always.

A call that fails may have been carried out all the same, and an answer may be lost on its way.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from local_aws.world import World

# On an answer that is to be taken for none: a client with a clock of its own need not wait for its timeout.
LOST_HEADER = "x-local-aws-lost"


@dataclass
class Fault:
    """`spared` is how many calls it lets pass before it hits, `left` how many it then hits; None: all."""

    action: str
    error: str
    left: int | None
    delay_seconds: float
    role: str | None
    spared: int = 0
    takes_effect: bool = False
    """The call is carried out, and only its answer is the error, or is lost."""
    lost: bool = False
    """There is no answer: 504 with `LOST_HEADER` after the delay."""

    @property
    def spoils(self) -> bool:
        """Whether the caller gets another answer than the service's."""
        return self.lost or bool(self.error)

    @property
    def prevents(self) -> bool:
        """Whether the service never sees the call."""
        return self.spoils and not self.takes_effect

    @property
    def code(self) -> str:
        """The error code that the call log shows."""
        return "Lost" if self.lost else self.error


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
                    if fault.spared > 0:
                        fault.spared -= 1
                        continue
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
            spared=int(given.get("spared") or 0),
            takes_effect=bool(given.get("takes_effect")),
            lost=bool(given.get("lost")),
        )
        if ":" not in fault.action:
            raise ValueError(f"an action is service:Operation, not {fault.action!r}")
        if not fault.error and not fault.delay_seconds and not fault.lost:
            raise ValueError("a fault needs an error, a delay, or both, unless the answer is lost")
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
