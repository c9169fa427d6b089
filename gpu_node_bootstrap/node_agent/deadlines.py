"""The `Deadlines` parameter of the drain command: `i-0abc...@2026-11-23T13:40:00Z`, joined by commas."""

from __future__ import annotations

import re

from .errors import ControlError
from .times import parse_utc

_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")


def parse_deadlines(parameter: str) -> dict[str, float]:
    """Return the deadline of each instance in epoch seconds, the earlier of two. Raises ControlError."""
    deadlines: dict[str, float] = {}
    for entry in filter(None, map(str.strip, parameter.split(","))):
        instance_id, _, time = entry.partition("@")
        if not _INSTANCE_ID.fullmatch(instance_id):
            raise ControlError(f"not INSTANCE@TIME: {entry!r}")
        try:
            deadline = parse_utc(time)
        except ValueError as err:
            raise ControlError(f"not INSTANCE@TIME: {entry!r}: {err}") from err
        deadlines[instance_id] = min(deadline, deadlines.get(instance_id, deadline))
    if not deadlines:
        raise ControlError("no deadline was given")
    return deadlines


def own_deadline(parameter: str, instance_id: str | None) -> float:
    """Return this node's deadline among others'. Raises ControlError when it is not there.

    A node that does not know its id yet takes the earliest: a drain may end early, never late.
    """
    deadlines = parse_deadlines(parameter)
    if instance_id is None:
        return min(deadlines.values())
    if instance_id not in deadlines:
        raise ControlError(f"no deadline for {instance_id} in {parameter!r}")
    return deadlines[instance_id]
