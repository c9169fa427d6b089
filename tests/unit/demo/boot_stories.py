"""A boot as an agent tells it, for the tests of what the demo makes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from local_aws.demo.boots import Boot, boot_from_status

# Phase: seconds after the machine's start at which it began, and how long it took. The fetches overlap.
TOLD = {
    "kernel": (0.0, 0.2),
    "user_data": (0.2, 1.8),
    "image": (2.0, 0.0),
    "weights": (2.0, 0.0),
    "compile_cache": (2.0, 0.0),
    "engine": (2.0, 20.5),
    "warm_up": (22.5, 1.0),
    "in_service": (23.5, 1.5),
}
MACHINE_START = datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC)


def boot_status(**changes: tuple[float, float] | None) -> dict[str, Any]:
    """Return a status's `boot`; `phase=(began, seconds)` changes a phase, `phase=None` leaves it out."""
    told = {**TOLD, **changes}
    phases = [
        {
            "phase": name,
            "started_at": (MACHINE_START + timedelta(seconds=times[0])).isoformat(timespec="milliseconds"),
            "seconds": times[1],
            "ended": True,
        }
        for name, times in told.items()
        if times is not None
    ]
    path = {name: times[1] for name, times in told.items() if times and times[1]}
    return {"booted_at": MACHINE_START.isoformat(), "phases": phases, "path": path}


def boot_of(**changes: tuple[float, float] | None) -> Boot:
    """Return the boot as the demo reads it."""
    found = boot_from_status({"boot": boot_status(**changes)})
    assert found is not None
    return found
