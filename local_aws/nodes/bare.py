"""Bare nodes: instances without a process, so that a thousand of them cost seconds and little memory.

What a bare node would do for itself is answered here: it boots in no time, its health check passes until it
drains or is gone, and its drain command is over at once, with the report that the agent prints (see
gpu_node_bootstrap/node_agent/drain.py). Nothing runs on it, so any other command succeeds and says nothing.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

DRAIN_COMMAND = "spot-failover-node drain"
_DEADLINE = re.compile(r"(i-[0-9a-f]{8,17})@([0-9T:.-]+Z)")
_NO_DEADLINE_SECONDS = 120.0


def is_drain(script: str) -> bool:
    """Say whether a command's script asks the node agent for a drain."""
    return DRAIN_COMMAND in script


def deadline_in(script: str, instance_id: str) -> float | None:
    """Return the epoch second that a drain's script names for one node, or None where it names none."""
    for named, text in _DEADLINE.findall(script):
        if named == instance_id:
            return datetime.fromisoformat(text).timestamp()
    return None


def drain_report(script: str, instance_id: str, *, started_at: float, finished_at: float) -> str:
    """Return what the agent prints for the drain of a node that had no request; times are epoch seconds."""
    deadline = deadline_in(script, instance_id)
    report = {
        "instance_id": instance_id,
        "trigger": "command",
        "started_at": _utc(started_at),
        "finished_at": _utc(finished_at),
        "seconds": round(finished_at - started_at, 3),
        "deadline": _utc(started_at + _NO_DEADLINE_SECONDS if deadline is None else deadline),
        "in_flight_at_start": 0,
        "finished": 0,
        "cut": 0,
        "engine_exit": "graceful",
        "outcome": "drained",
    }
    return json.dumps(report) + "\n"


def address(number: int) -> str:
    """Return the address of the n-th bare node, where nobody listens: of RFC 6598's shared range."""
    return f"100.{64 + (number >> 16) % 64}.{(number >> 8) % 256}.{number % 256}"


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
