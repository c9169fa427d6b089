"""A replacement's boot as its own agent tells it: its phases, and what the whole waited for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gpu_node_bootstrap.node_agent.boot import FETCHES, Phase

PHASE_NAMES = tuple(phase.value for phase in Phase)
SIDE_BY_SIDE = frozenset(phase.value for phase in FETCHES)
_ENGINE_PHASES = (Phase.ENGINE.value, Phase.WARM_UP.value)


@dataclass(frozen=True, slots=True)
class BootPhase:
    """One phase; `ended` is False where it still ran when the agent was last asked."""

    name: str
    started_at: datetime
    seconds: float
    ended: bool

    @property
    def ended_at(self) -> datetime:
        """When the phase ended, or was last seen."""
        return self.started_at + timedelta(seconds=self.seconds)


@dataclass(frozen=True, kw_only=True)
class Boot:
    """A boot from the machine's start on. `path` splits it into seconds that add up to the whole."""

    booted_at: datetime
    phases: Sequence[BootPhase]
    path: Mapping[str, float] = field(default_factory=dict)

    def phase(self, name: str) -> BootPhase | None:
        """Return a phase that has ended, None where it has not, or never was."""
        return next((each for each in self.phases if each.name == name and each.ended), None)

    def missing_phases(self) -> tuple[str, ...]:
        """Name the phases that did not happen, or did not end."""
        return tuple(name for name in PHASE_NAMES if self.phase(name) is None)

    @property
    def engine_seconds(self) -> float | None:
        """Seconds from the start of the engine's process to its first completion, as of a bare start."""
        parts = [self.phase(name) for name in _ENGINE_PHASES]
        return None if None in parts else sum(part.seconds for part in parts if part)

    @property
    def ready_seconds(self) -> float | None:
        """Seconds from the machine's start to the engine's first completion: until the node is ready."""
        last = self.phase(Phase.WARM_UP.value)
        return None if last is None else (last.ended_at - self.booted_at).total_seconds()

    def as_json(self) -> dict[str, Any]:
        """Return it as it stands in the report."""
        return {
            "booted_at": self.booted_at,
            "ready_seconds": self.ready_seconds,
            "phases": [asdict(each) for each in self.phases],
            "path": dict(self.path),
        }


def boot_from_status(status: Mapping[str, Any] | None) -> Boot | None:
    """Read a boot out of an agent's status; None where the agent tells of none."""
    told = (status or {}).get("boot")
    if not isinstance(told, Mapping) or not told.get("booted_at"):
        return None
    phases = [
        BootPhase(
            name=str(each["phase"]),
            started_at=datetime.fromisoformat(each["started_at"]),
            seconds=float(each["seconds"]),
            ended=bool(each["ended"]),
        )
        for each in told["phases"]
    ]
    return Boot(booted_at=datetime.fromisoformat(told["booted_at"]), phases=phases, path=dict(told["path"]))
