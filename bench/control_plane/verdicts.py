"""What the storm bench promises, judged from its figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.control_plane.outcome import Action
from bench.control_plane.storms import Storm

FASTER = 10.0
FEWER_CALLS = 5.0


@dataclass(frozen=True)
class Verdict:
    """One promise, whether it is kept, and the figures it rests on."""

    promise: str
    kept: bool
    figures: str


def judge(
    ours: Sequence[Storm], published: Storm, *, single: Mapping[str, float] | None = None
) -> list[Verdict]:
    """Judge storms of growing size, the last of the published pattern's size.

    `single` has the medians of one warm interruption: "ours" (last action) and "published" (first one).
    """
    largest = ours[-1]
    verdicts = [_nobody_missed(largest), _faster(largest, published), _fewer_calls(largest, published)]
    verdicts.append(
        _does_not_grow("calls per interruption", [(one.nodes, one.calls_per_interruption) for one in ours])
    )
    verdicts.append(
        _does_not_grow(
            "seconds per interruption", [(one.nodes, one.last_action_seconds / one.nodes) for one in ours]
        )
    )
    if single is not None:
        verdicts.append(_single(single))
    return verdicts


def _nobody_missed(storm: Storm) -> Verdict:
    shares = {action: storm.share(action) for action in Action}
    return Verdict(
        f"every one of {storm.nodes} nodes deregistered, told to drain and replaced before its deadline",
        all(share == 1 for share in shares.values()),
        ", ".join(f"{action} {share:.1%}" for action, share in shares.items()),
    )


def _faster(ours: Storm, published: Storm) -> Verdict:
    times = published.last_action_seconds / ours.last_action_seconds
    return Verdict(
        f"notice to the last action at least {FASTER:g} times shorter",
        times >= FASTER,
        f"{ours.last_action_seconds:.1f} s against {published.last_action_seconds:.1f} s: {times:.1f} times",
    )


def _fewer_calls(ours: Storm, published: Storm) -> Verdict:
    few, many = ours.calls_per_interruption, published.calls_per_interruption
    return Verdict(
        f"calls per interruption at least {FEWER_CALLS:g} times fewer",
        many / few >= FEWER_CALLS,
        f"{few:.2f} against {many:.2f}: {many / few:.1f} times",
    )


def _does_not_grow(what: str, figures: Sequence[tuple[int, float]]) -> Verdict:
    return Verdict(
        f"{what} do not grow with the storm",
        all(later <= earlier for (_, earlier), (_, later) in pairwise(figures)),
        ", ".join(f"{nodes}: {figure:.3f}" for nodes, figure in figures),
    )


def _single(medians: Mapping[str, float]) -> Verdict:
    ours, published = medians["ours"], medians["published"]
    return Verdict(
        "one interruption, warm: our last action no later than the published pattern's first",
        ours <= published,
        f"{ours * 1000:.0f} ms against {published * 1000:.0f} ms",
    )
