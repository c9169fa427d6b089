"""Shows the run as it happens: a live view on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from local_aws.demo.traffic import TrafficCounts

STATE_STYLES = {
    "starting": "yellow",
    "serving": "green",
    "recovering": "red",
    "failed": "bold red",
    "draining": "dark_orange",
    "empty": "bright_black",
    "gone": "bright_black",
}
PLAIN_STATUS_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node in the live view; `seconds_left` until EC2 takes it, None without a notice."""

    instance_id: str
    address: str
    state: str
    in_flight: int | None
    seconds_left: float | None


@dataclass
class View:
    """What the live view shows. Whoever learns something replaces the field; it is only read elsewhere."""

    title: str
    began: float = field(default_factory=time.monotonic)
    phase: str = ""
    nodes: Sequence[NodeLine] = ()
    requests: TrafficCounts | None = None
    steps: deque[str] = field(default_factory=lambda: deque(maxlen=14))

    @property
    def elapsed(self) -> str:
        """Minutes and seconds since the demo began."""
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60}:{seconds % 60:02d}"


class Progress(Protocol):
    """Where the run tells what happens. A context manager; nothing is shown after its end."""

    def __enter__(self) -> Self:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""

    def phase(self, text: str) -> None:
        """Say what the run does now."""

    def step(self, text: str) -> None:
        """Say that something happened."""

    def status(self, nodes: Sequence[NodeLine], requests: TrafficCounts | None) -> None:
        """Hand over how things are; called about once a second."""


class PlainProgress:
    """One line for everything that happens, and the state of things now and then."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._view = View(title)
        self._last_status = time.monotonic()

    def __enter__(self) -> Self:
        self._line(self._view.title)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def phase(self, text: str) -> None:
        """Say what the run does now."""
        self._line(text)

    def step(self, text: str) -> None:
        """Say that something happened."""
        self._line(f"  {text}")

    def status(self, nodes: Sequence[NodeLine], requests: TrafficCounts | None) -> None:
        """Print the state of things, every 15 s while there is traffic."""
        if requests is None or time.monotonic() - self._last_status < PLAIN_STATUS_SECONDS:
            return
        self._last_status = time.monotonic()
        shown = ", ".join(
            f"{node.instance_id} {_state_words(node)}" for node in nodes if node.state != "gone"
        )
        self._line(f"    requests: {requests_words(requests)}; nodes: {shown}")

    def _line(self, text: str) -> None:
        self._console.print(
            f"[{self._view.elapsed:>5}] {text}", markup=False, highlight=False, soft_wrap=True
        )


class LiveProgress:
    """A view that is redrawn in place."""

    def __init__(self, console: Console, title: str) -> None:
        self._view = View(title)
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def phase(self, text: str) -> None:
        """Say what the run does now."""
        self._view.phase = text
        self._view.steps.append(f"{self._view.elapsed:>5}  {text}")

    def step(self, text: str) -> None:
        """Say that something happened."""
        self._view.steps.append(f"{self._view.elapsed:>5}    {text}")

    def status(self, nodes: Sequence[NodeLine], requests: TrafficCounts | None) -> None:
        """Remember the state of things for the next redraw."""
        self._view.nodes = nodes
        self._view.requests = requests

    def _render(self) -> RenderableType:
        return render(self._view)


def render(view: View) -> RenderableType:
    """Return the live view as something rich can draw."""
    head = Text.assemble((view.title, "bold"), "   ", (view.elapsed, "cyan"), "   ", view.phase)
    requests = Text("no traffic yet", style="bright_black")
    if view.requests is not None:
        requests = Text(requests_words(view.requests), style="bold red" if view.requests.lost else "green")
    steps = Text("\n".join(view.steps) or "...")
    return Group(
        head,
        Panel(_node_table(view.nodes), title="nodes", title_align="left", border_style="bright_black"),
        Panel(requests, title="requests", title_align="left", border_style="bright_black"),
        Panel(steps, title="what happened", title_align="left", border_style="bright_black"),
    )


def requests_words(counts: TrafficCounts) -> str:
    """Return the traffic in one line."""
    lost = f"{counts.lost} LOST" if counts.lost else "0 lost"
    return f"{counts.in_flight} in flight, {counts.complete} answered, {counts.retried} retried, {lost}"


def _node_table(nodes: Sequence[NodeLine]) -> RenderableType:
    if not nodes:
        return Text("none yet", style="bright_black")
    table = Table(box=None, expand=True, pad_edge=False)
    for name in ("node", "address", "state", "in flight", "seconds left"):
        table.add_column(name, justify="right" if name in ("in flight", "seconds left") else "left")
    for node in nodes:
        left = "" if node.seconds_left is None or node.state == "gone" else f"{max(node.seconds_left, 0):.0f}"
        table.add_row(
            node.instance_id,
            node.address,
            Text(node.state, style=STATE_STYLES.get(node.state, "")),
            "" if node.in_flight is None else str(node.in_flight),
            Text(left, style="bold red" if left else ""),
        )
    return table


def _state_words(node: NodeLine) -> str:
    if node.seconds_left is None:
        return node.state
    return f"{node.state} ({max(node.seconds_left, 0):.0f} s left)"
