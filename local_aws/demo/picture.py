"""Draws a run: each incident's steps, what each node did, how many were ready, the requests' fate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from gpu_node_bootstrap.node_agent.boot import FETCHES, Phase
from local_aws.demo.answers import RequestRecord
from local_aws.demo.interruptions import Interruption
from local_aws.demo.story import NodeState, Story

STATE_COLOURS = {
    NodeState.STARTING: "#f2c14e",
    NodeState.SERVING: "#3a9d7c",
    NodeState.DRAINING: "#e07a3f",
    NodeState.EMPTY: "#c9ced6",
}
PHASE_COLOURS = {
    Phase.KERNEL: "#7d8793",
    Phase.USER_DATA: "#b08968",
    Phase.IMAGE: "#5fa8d3",
    Phase.WEIGHTS: "#2f6690",
    Phase.COMPILE_CACHE: "#81c3d7",
    Phase.ENGINE: "#d4a017",
    Phase.WARM_UP: "#e76f51",
    Phase.IN_SERVICE: "#52796f",
}
INK, FAINT, LOST, RETRIED = "#22303c", "#8a96a3", "#c8323c", "#7b61c9"
READY = "#4f7cac"
# Steps closer than this share one line and one label.
_TOGETHER_SECONDS = 6.0
_LABEL_INCHES = 2.5
# How much of a lane's height the phases of a boot take.
_STRIP = 0.16
_LABEL_TOP, _LABEL_LINE = 0.98, 0.12  # of the height that labels have
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


class LabelBox(NamedTuple):
    """Where a label stands: seconds from left to right, shares of the height from top to bottom."""

    left: float
    right: float
    top: float
    bottom: float


def draw(story: Story, path: Path) -> None:
    """Write the picture as PNG. Time zero is the story's beginning."""
    with mpl.rc_context(_STYLE):
        lanes = max(len(story.nodes), 1)
        figure = Figure(figsize=(_picture_inches(story), 6.0 + 0.5 * lanes), dpi=110, layout="constrained")
        steps, nodes, capacity, requests = figure.subplots(
            4, 1, sharex=True, height_ratios=[1.7, 0.5 * lanes + 0.3, 1.1, 1.6]
        )
        figure.suptitle(story.title, fontsize=14, fontweight="bold", x=0.01, ha="left")
        _draw_steps(steps, story)
        _draw_nodes(nodes, story)
        _draw_capacity(capacity, story)
        _draw_requests(requests, story)
        for axes in (nodes, capacity, requests):
            for at, _ in _step_groups(story):
                axes.axvline(at, color=INK, linewidth=0.8, linestyle=(0, (2, 3)), alpha=0.55, zorder=3)
        requests.set_xlim(0, max(story.end - story.begin, 1))
        requests.set_xlabel("seconds since the traffic began")
        figure.savefig(path)


def step_groups(
    interruption: Interruption, *, begin: float, together_seconds: float = _TOGETHER_SECONDS
) -> list[tuple[float, str]]:
    """Return an incident's lines (seconds since `begin`) and their labels; near steps share one."""
    notice = interruption.noticed_at.timestamp()
    groups: list[tuple[float, list[str]]] = []
    for at, name in interruption.steps():
        seconds = at.timestamp()
        after = seconds - notice
        label = f"{name} {interruption.instance_id}" if name == "notice" else f"+{after:.1f} s  {name}"
        if groups and seconds - begin - groups[-1][0] < together_seconds:
            groups[-1][1].append(label)
        else:
            groups.append((seconds - begin, [label]))
    return [(at, "\n".join(labels)) for at, labels in groups]


def _step_groups(story: Story) -> list[tuple[float, str]]:
    return [group for each in story.interruptions for group in step_groups(each, begin=story.begin)]


def free_top(placed: Sequence[LabelBox], left: float, right: float, height: float) -> float:
    """Return how high a label can stand between `left` and `right` without covering another."""
    beside = [box for box in placed if box.left < right and left < box.right]
    for top in sorted({_LABEL_TOP, *(box.bottom for box in beside)}, reverse=True):
        if all(box.top <= top - height or top <= box.bottom for box in beside):
            return top
    return _LABEL_TOP


def _draw_steps(axes: Axes, story: Story) -> None:
    axes.set_ylim(0, 1)
    axes.axis("off")
    width = max(story.end - story.begin, 1)
    label_width = _LABEL_INCHES / _picture_inches(story) * width
    placed: list[LabelBox] = []
    for at, label in _step_groups(story):
        # At the right edge a label stands left of its line.
        left = at if at + label_width < width else at - label_width
        height = _LABEL_LINE * (label.count("\n") + 1)
        top = free_top(placed, left, left + label_width, height)
        placed.append(LabelBox(left, left + label_width, top, top - height))
        axes.axvline(at, ymax=top, color=INK, linewidth=0.8, linestyle=(0, (2, 3)), alpha=0.55)
        axes.text(
            at + (0.004 if left == at else -0.004) * width,
            top,
            label,
            ha="left" if left == at else "right",
            va="top",
            fontsize=9,
            linespacing=1.35,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85},
        )


def _picture_inches(story: Story) -> float:
    """Return the width that leaves every incident room for its labels, within reason."""
    return min(40.0, max(15.0, 3 * _LABEL_INCHES * len(story.interruptions)))


def _draw_nodes(axes: Axes, story: Story) -> None:
    for lane, life in enumerate(story.nodes):
        for span in life.spans(story.end):
            left = max(span.begin, story.begin) - story.begin
            width = span.end - story.begin - left
            if width <= 0:
                continue
            axes.barh(lane, width, left=left, height=0.62, color=STATE_COLOURS[span.state], zorder=2)
            if width > 0.055 * (story.end - story.begin):
                axes.text(
                    left + width / 2, lane, span.state.value, ha="center", va="center", fontsize=9, zorder=4,
                    color=INK if span.state in (NodeState.STARTING, NodeState.EMPTY) else "white",
                )  # fmt: skip
    axes.set_yticks(range(len(story.nodes)), [life.instance_id for life in story.nodes], fontsize=9)
    axes.set_ylim(max(len(story.nodes), 1) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title("Nodes", loc="left", fontsize=11)
    _draw_boots(axes, story)
    states = [Patch(color=colour, label=state.value) for state, colour in STATE_COLOURS.items()]
    phases = [Patch(color=colour, label=phase.value) for phase, colour in PHASE_COLOURS.items()]
    _legend(axes, [*states, *(phases if any(each.boot for each in story.interruptions) else [])])


def _draw_boots(axes: Axes, story: Story) -> None:
    """Draw each replacement's phases under its lane; those that run side by side share the strip's height."""
    lanes = {life.instance_id: lane for lane, life in enumerate(story.nodes)}
    fetches = [phase for phase in Phase if phase in FETCHES]
    for each in story.interruptions:
        lane = lanes.get(each.replacement_instance_id or "")
        if each.boot is None or lane is None:
            continue
        for phase, colour in PHASE_COLOURS.items():
            if (told := each.boot.phase(phase.value)) is None:
                continue
            share = 1 / len(fetches) if phase in FETCHES else 1
            top = lane + 0.33 + _STRIP * (fetches.index(phase) * share if phase in FETCHES else 0)
            left = told.started_at.timestamp() - story.begin
            axes.bar(left, _STRIP * share, told.seconds, bottom=top, align="edge", color=colour, zorder=3)


def _draw_capacity(axes: Axes, story: Story) -> None:
    points = [(max(point.at - story.begin, 0.0), point.ready) for point in story.capacity]
    end = story.end - story.begin
    times = [0.0, *(at for at, _ in points), end]
    ready = [0, *(count for _, count in points)]
    ready.append(ready[-1])
    axes.fill_between(times, ready, step="post", color=READY, alpha=0.25, linewidth=0)
    axes.step(times, ready, where="post", color=READY, linewidth=1.8)
    for (since, until), count in zip(pairwise(times), ready, strict=False):
        if count < story.desired:
            short = story.desired - count
            axes.bar(since, short, until - since, bottom=count, align="edge", color=LOST, alpha=0.18)
    axes.axhline(story.desired, color=INK, linewidth=1, linestyle=(0, (5, 3)))
    axes.set_ylim(0, story.desired + 1.2)
    axes.set_yticks(range(story.desired + 2))
    axes.set_title("Ready nodes (healthy in the target group)", loc="left", fontsize=11)
    desired = Line2D([], [], color=INK, linewidth=1, linestyle=(0, (5, 3)), label="desired")
    gap = Patch(color=LOST, alpha=0.25, label="capacity gap")
    _legend(axes, [Patch(color=READY, alpha=0.5, label="ready"), gap, desired])


def _draw_requests(axes: Axes, story: Story) -> None:
    span = max(story.end - story.begin, 1)
    bin_seconds = max(1, round(span / 90))
    bins = math.ceil(span / bin_seconds)
    lefts = [index * bin_seconds for index in range(bins)]
    bottom = [0.0] * bins
    drawn: tuple[tuple[str, str, Callable[[RequestRecord], bool]], ...] = (
        ("answered", STATE_COLOURS[NodeState.SERVING], lambda r: r.complete and not r.retried),
        ("answered after a retry", RETRIED, lambda r: r.complete and r.retried),
        ("lost", LOST, lambda r: not r.complete),
    )
    for name, colour, belongs in drawn:
        chosen = [r for r in story.records if belongs(r)]
        counts = Counter(min(int((r.ended_at - story.begin) // bin_seconds), bins - 1) for r in chosen)
        heights = [counts[index] / bin_seconds for index in range(bins)]
        axes.bar(
            lefts, heights, width=bin_seconds * 0.9, bottom=bottom, align="edge", color=colour,
            label=f"{name} ({len(chosen)})", zorder=2,
        )  # fmt: skip
        bottom = [low + high for low, high in zip(bottom, heights, strict=True)]
    axes.set_ylim(0, max([*bottom, 0.5]) * 1.25)
    axes.set_ylabel("per second")
    axes.set_title("Requests by their end, and in flight", loc="left", fontsize=11)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, fontsize=9, borderaxespad=0)
    _draw_in_flight(axes, story)


def _draw_in_flight(axes: Axes, story: Story) -> None:
    """Draw the requests in flight as an area behind the bars, on a scale of its own."""
    behind = axes.twinx()
    behind.fill_between(
        *_in_flight(story.records, story.begin), step="post", color=FAINT, alpha=0.22, linewidth=0
    )
    behind.set_ylim(bottom=0)
    behind.set_ylabel("in flight (grey)")
    behind.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    behind.spines["right"].set_visible(True)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)


def _in_flight(records: Sequence[RequestRecord], begin: float) -> tuple[list[float], list[int]]:
    changes = sorted(
        [(r.started_at - begin, 1) for r in records] + [(r.ended_at - begin, -1) for r in records]
    )
    times, counts, now = [0.0], [0], 0
    for at, change in changes:
        now += change
        times.append(at)
        counts.append(now)
    return times, counts


def _legend(axes: Axes, handles: Sequence[Artist]) -> None:
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles), frameon=False,
        fontsize=9, borderaxespad=0, handlelength=1.2,
    )  # fmt: skip
