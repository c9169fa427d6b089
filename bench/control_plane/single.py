"""One interruption at a time on warm functions: our last request against the published pattern's first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.control_plane.contenders import Contender
from bench.control_plane.fleets import Fleets
from bench.node.numbers import spread

WAIT_SECONDS = 30.0
# A function's record and its messages, and the replacement's first health checks.
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
    """Seconds from one notice to each of the contender's requests, by IAM action."""

    seconds: dict[str, float]

    @property
    def last(self) -> float:
        """The last of them."""
        return max(self.seconds.values())


def measure(sides: Sequence[Side], *, repeats: int, tell: Callable[[str], None]) -> dict[str, list[Repeat]]:
    """Interrupt one node of each side in turn; the repeats by contender's name. Raises NoAnswerError."""
    found: dict[str, list[Repeat]] = {side.contender.name: [] for side in sides}
    for number in range(repeats + WARM_UP):
        # Who comes first changes, so that neither is always the one after a pause.
        for side in sides if number % 2 else list(reversed(sides)):
            repeat = _interrupt_one(side)
            if number >= WARM_UP:
                found[side.contender.name].append(repeat)
    for name, made in found.items():
        tell(f"one interruption, warm, {name}: {spread([each.last for each in made])} s")
    return found


def _interrupt_one(side: Side) -> Repeat:
    control = side.fleets.aws.control
    instance_id = side.fleets.whole(1)[0].instance_id
    began = time.time()
    (noticed_at,) = control.interrupt_all([instance_id], imds=False)
    give_up_at = began + WAIT_SECONDS
    while True:
        # The calls are read once the requests should be through: reading them takes the endpoint's time.
        time.sleep(REST_SECONDS)
        times = requests_after(noticed_at, side.contender, control.calls())
        missing = [action for action in side.contender.actions if action not in times]
        if not missing:
            return Repeat({action: at - noticed_at for action, at in times.items()})
        if time.time() > give_up_at:
            raise NoAnswerError(f"{side.contender.name}: no {', '.join(missing)} in {WAIT_SECONDS:g} s")


def requests_after(
    noticed_at: float, contender: Contender, calls: Iterable[dict[str, Any]]
) -> dict[str, float]:
    """Return when each of the contender's requests was first granted after a notice. Pure."""
    times: dict[str, float] = {}
    for call in calls:
        mine = call["role"] in contender.roles and call["action"] in contender.actions
        if mine and call["result"] == "ok" and call["at"] >= noticed_at:
            times.setdefault(call["action"], call["at"])
    return times


def summary(found: dict[str, list[Repeat]]) -> dict[str, Any]:
    """Return the repeats' figures by contender: of its last request, and of each."""
    return {
        name: {
            "repeats": len(repeats),
            "last_request_seconds": vars_of([each.last for each in repeats]),
            "requests_seconds": {
                action: vars_of([each.seconds[action] for each in repeats]) for action in repeats[0].seconds
            },
        }
        for name, repeats in found.items()
    }


def vars_of(figures: Sequence[float]) -> dict[str, float]:
    """Return least, median and most."""
    told = spread(figures)
    return {"least": told.least, "median": told.median, "most": told.most}
