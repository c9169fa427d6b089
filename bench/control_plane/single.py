"""One interruption at a time on warm functions: our last action against the published pattern's first."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.control_plane import outcome
from bench.control_plane.contenders import Contender
from bench.control_plane.fleets import Fleets
from bench.control_plane.outcome import Action, Notices
from bench.control_plane.storms import Observer
from bench.node.numbers import spread

WAIT_SECONDS = 30.0
# A function's record and its messages, and what is read of the timeline meanwhile, take the endpoint's time.
REST_SECONDS = 1.5
# The first interruptions start processes and fill caches.
WARM_UP = 2


class NoAnswerError(RuntimeError):
    """An interruption had no answer in time; the message says whose and what was missing."""


@dataclass(frozen=True)
class Side:
    """A contender and its fleet, on a local AWS of its own."""

    contender: Contender
    fleets: Fleets


@dataclass(frozen=True)
class Repeat:
    """Seconds from one notice until each action was reached; see `outcome`."""

    seconds: Mapping[Action, float]

    @property
    def first(self) -> float:
        """The first of them."""
        return min(self.seconds.values())

    @property
    def last(self) -> float:
        """The last of them."""
        return max(self.seconds.values())


def measure(sides: Sequence[Side], *, repeats: int, tell: Callable[[str], None]) -> dict[str, list[Repeat]]:
    """Interrupt one node of each side in turn; the repeats by contender's name. Raises NoAnswerError."""
    found: dict[str, list[Repeat]] = {side.contender.name: [] for side in sides}
    observers = {side.contender.name: Observer(side.fleets.aws.control) for side in sides}
    for number in range(repeats + WARM_UP):
        # Who comes first changes, so that neither is always the one after a pause.
        for side in sides if number % 2 else list(reversed(sides)):
            repeat = _interrupt_one(side, observers[side.contender.name])
            if number >= WARM_UP:
                found[side.contender.name].append(repeat)
    for name, made in found.items():
        first, last = spread([each.first for each in made]), spread([each.last for each in made])
        tell(f"one interruption, warm, {name}: first action {first} s, last {last} s")
    return found


def _interrupt_one(side: Side, observer: Observer) -> Repeat:
    control = side.fleets.aws.control
    instance_id = side.fleets.whole(1)[0].instance_id
    observer.look()
    (noticed_at,) = control.interrupt_all([instance_id], imds=False)
    notices = Notices({instance_id: noticed_at}, seconds=120.0)
    give_up_at = noticed_at + WAIT_SECONDS
    while True:
        time.sleep(REST_SECONDS)
        found = outcome.reached(observer.look(), notices)
        if outcome.complete(found, notices):
            return Repeat({action: found[action][instance_id] - noticed_at for action in Action})
        if time.time() > give_up_at:
            missing = ", ".join(action for action in Action if not found[action])
            raise NoAnswerError(f"{side.contender.name}: not {missing} in {WAIT_SECONDS:g} s")


def summary(found: Mapping[str, Sequence[Repeat]]) -> dict[str, Any]:
    """Return the repeats' figures by contender: of the first action, the last, and each."""
    return {
        name: {
            "repeats": len(repeats),
            "first_seconds": _figures([each.first for each in repeats]),
            "last_seconds": _figures([each.last for each in repeats]),
            "seconds": {
                action.value: _figures([each.seconds[action] for each in repeats]) for action in Action
            },
        }
        for name, repeats in found.items()
    }


def _figures(figures: Sequence[float]) -> dict[str, float]:
    told = spread(figures)
    return {"least": told.least, "median": told.median, "most": told.most}
