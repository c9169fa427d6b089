"""Which departing node a launch replaces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from spot_failover.incidents import Incident

# How far back a launch looks for its incident. An empty spot pool can hold a launch up for long.
WINDOW = timedelta(hours=6)


def replaced_by(incidents: Sequence[Incident], instance_id: str) -> Incident | None:
    """Return the incident that this instance is the replacement of already."""
    return next((one for one in incidents if one.replacement_instance_id == instance_id), None)


def awaiting(incidents: Sequence[Incident], *, launched_at: datetime) -> list[Incident]:
    """Return the incidents that a launch can belong to, the likeliest first.

    A launch answers the oldest notice before it whose replacement was asked for. Where none was, because the
    request failed or was missed, the group itself replaces the node, but only once it is dead.
    """
    open_incidents = sorted(
        (one for one in incidents if one.replacement_instance_id is None), key=lambda one: one.noticed_at
    )
    requested = [one for one in open_incidents if one.awaits_replacement and one.noticed_at <= launched_at]
    died = [one for one in open_incidents if not one.awaits_replacement and one.deadline <= launched_at]
    return requested + died
