"""Follows a local AWS from the outside: its timeline and its nodes, about twice a second."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from local_aws.control_client import Control, ControlError, NodeView
from local_aws.demo.capacity import CapacityPoint, capacity_points
from local_aws.demo.errors import WatchError
from local_aws.demo.node_facts import is_healthy, node_line, requests_on
from local_aws.demo.progress import Progress
from local_aws.demo.traffic import TrafficCounts

POLL_SECONDS = 0.5
GIVE_UP_SECONDS = 30.0


class FleetWatch:
    """A context manager; inside it a thread keeps `entries` and `nodes` fresh and the progress shown."""

    def __init__(self, control: Control, progress: Progress) -> None:
        self._control = control
        self._progress = progress
        self._stopping = threading.Event()
        self._entries: list[dict[str, Any]] = []
        self._nodes: list[NodeView] = []
        self._announced: dict[str, str] = {}
        self._statuses: dict[str, Mapping[str, Any]] = {}
        self._silent_since: float | None = None
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._run, name="fleet-watch", daemon=True)
        self.traffic_counts: Callable[[], TrafficCounts] | None = None
        """Set once there is traffic; shown with the nodes."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def entries(self) -> tuple[dict[str, Any], ...]:
        """Return the timeline up to now. Raises WatchError when the local AWS has gone silent."""
        self._raise_problem()
        return tuple(self._entries)

    def nodes(self) -> list[NodeView]:
        """Return the nodes as last seen. Raises WatchError when the local AWS has gone silent."""
        self._raise_problem()
        return list(self._nodes)

    def healthy(self) -> list[NodeView]:
        """Return the nodes that the load balancer sends requests to, oldest first."""
        return [node for node in self.nodes() if is_healthy(node)]

    def capacity(self) -> tuple[CapacityPoint, ...]:
        """Return the ready nodes over time."""
        return capacity_points(self.entries())

    def _run(self) -> None:
        while not self._stopping.wait(POLL_SECONDS):
            try:
                self._look()
            except ControlError as err:
                self._silent_since = self._silent_since or time.monotonic()
                if time.monotonic() - self._silent_since > GIVE_UP_SECONDS:
                    self._problem = str(err)
            except Exception as err:
                # Whoever asks must hear of it: a watcher that died would show the last state for ever.
                self._problem = repr(err)
                raise
            else:
                self._silent_since = None

    def _look(self) -> None:
        fresh = self._control.timeline(since=len(self._entries))
        self._entries.extend(fresh)
        self._nodes = [self._with_last_status(node) for node in self._control.nodes()]
        lines = [node_line(node, in_flight=requests_on(node), now=time.time()) for node in self._nodes]
        counts = self.traffic_counts() if self.traffic_counts else None
        with contextlib.suppress(OSError):  # a closed terminal is no reason to stop watching
            self._announce([(line.instance_id, line.state) for line in lines])
            self._progress.status(lines, counts)

    def _with_last_status(self, node: NodeView) -> NodeView:
        """Keep the agent's last word while it is late; after a notice its silence means the end."""
        if node.status is not None:
            self._statuses[node.instance_id] = node.status
        elif node.noticed_at is None:
            return replace(node, status=self._statuses.get(node.instance_id))
        return node

    def _announce(self, states: Sequence[tuple[str, str]]) -> None:
        for instance_id, state in states:
            if self._announced.get(instance_id) != state:
                self._announced[instance_id] = state
                self._progress.step(f"{instance_id} is {state}")

    def _raise_problem(self) -> None:
        if self._problem is not None:
            raise WatchError(f"the local AWS does not answer any more: {self._problem}")
