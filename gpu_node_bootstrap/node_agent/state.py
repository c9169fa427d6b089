"""The states of a node, and which may follow which."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn


class NodeState(str, Enum):
    """What the node tells the load balancer and its operator."""

    STARTING = "starting"
    READY = "ready"
    RECOVERING = "recovering"
    """The engine had been ready, failed, and is being started again."""
    DRAINING = "draining"
    DRAINED = "drained"
    FAILED = "failed"
    """The node will not be ready again; it answers its status and drains, and waits to be replaced."""


_FOLLOWERS = {
    # A start or a recovery that takes several tries says at each how it stands.
    NodeState.STARTING: {NodeState.STARTING, NodeState.READY, NodeState.DRAINING, NodeState.FAILED},
    NodeState.READY: {NodeState.RECOVERING, NodeState.DRAINING, NodeState.FAILED},
    NodeState.RECOVERING: {NodeState.RECOVERING, NodeState.READY, NodeState.DRAINING, NodeState.FAILED},
    NodeState.DRAINING: {NodeState.DRAINED},
    # A drained node is on its way out, and a failed one waits for the same: no drain makes it anything else.
    NodeState.DRAINED: set(),
    NodeState.FAILED: set(),
}


def may_follow(current: NodeState, following: NodeState) -> bool:
    """Return whether a node may go from one state to the other."""
    return following in _FOLLOWERS[current]


def assert_never(value: NoReturn) -> NoReturn:
    """Mark a branch that the type checker proves unreachable; `typing` has it from Python 3.11 on."""
    raise AssertionError(f"unhandled: {value!r}")


@dataclass(frozen=True)
class StateView:
    """A state, why, and since when (epoch seconds)."""

    state: NodeState
    reason: str
    since: float


class StateMachine:
    """Holds the node's state. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._view = StateView(NodeState.STARTING, "the boot is being prepared", time.time())

    def view(self) -> StateView:
        """Return the present state."""
        return self._view

    @property
    def state(self) -> NodeState:
        """The present state."""
        return self._view.state

    def move(self, following: NodeState, reason: str) -> NodeState | None:
        """Go to a state and return the one before; None, and nothing changed, where it may not follow."""
        with self._lock:
            before = self._view.state
            if not may_follow(before, following):
                return None
            since = self._view.since if following is before else time.time()
            self._view = StateView(following, reason, since)
            return before
