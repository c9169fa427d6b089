"""The properties' long mode: many scenarios and inputs on every core, the result written down.

python -m tests.properties.record --examples 20000 --inputs 100000 --workers 2
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded

# Read by Powertools when its logger is made, that is at the first import of the code under test.
os.environ |= {"POWERTOOLS_SERVICE_NAME": "properties", "POWERTOOLS_LOG_LEVEL": "INFO"}

from tests.properties.scenarios import SCENARIOS
from tests.properties.test_hostile_input import swallow_all
from tests.simulation.invariants import problems
from tests.simulation.play import play
from tests.simulation.scenario import Scenario
from tests.simulation.world import in_memory

REPOSITORY = Path(__file__).parents[2]
SCENARIOS_A_SHARE, INPUTS_A_SHARE = 250, 12_500
RECORD = REPOSITORY / "docs" / "measured" / "properties.json"


@dataclass(frozen=True)
class Tally:
    """What a share came to; `seconds` are of one processor. `failure` tells the smallest case found."""

    cases: int
    notices: int
    invocations: int
    calls: int
    seconds: float
    failure: str | None = None


def play_share(examples: int, seed: int) -> Tally:
    """Play so many scenarios from a seed, in this process."""
    counted = {"cases": 0, "notices": 0, "invocations": 0, "calls": 0}

    @seeded(seed)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(scenario=SCENARIOS)
    def nothing_is_lost(scenario: Scenario) -> None:
        outcome = play(scenario)
        counted["cases"] += 1
        counted["notices"] += len(outcome.notices)
        counted["invocations"] += sum(one.invocations for one in outcome.world.functions.values())
        counted["calls"] += len(outcome.world.network.journal)
        found = problems(outcome)
        assert not found, f"{found}\n{scenario}"

    return _timed(counted, nothing_is_lost)


def swallow_share(inputs: int, seed: int) -> Tally:
    """Swallow so many texts from a seed, in this process."""
    counted = {"cases": inputs, "notices": 0, "invocations": 0, "calls": 0}
    return _timed(counted, lambda: swallow_all(inputs, seed))


def _timed(counted: dict[str, int], work: Callable[[], None]) -> Tally:
    began, failure = time.monotonic(), None
    with in_memory():
        try:
            work()
        except AssertionError as error:
            failure = str(error)[:5000]
    return Tally(**counted, seconds=round(time.monotonic() - began, 1), failure=failure)


def summary(tallies: Sequence[Tally], seeds: Sequence[int]) -> dict[str, Any]:
    """Return the shares' sum as it is written down."""
    names = ("cases", "notices", "invocations", "calls")
    return {
        **{name: sum(getattr(one, name) for one in tallies) for name in names},
        "seeds": list(seeds),
        "seconds": round(sum(one.seconds for one in tallies), 1),
        "failures": [one.failure for one in tallies if one.failure],
    }


def _shared(
    work: Callable[[int, int], Tally], what: str, cases: int, share: int, *, workers: int, seed: int
) -> dict[str, Any]:
    sizes = [min(share, cases - begun) for begun in range(0, cases, share)]
    seeds = [seed + number for number in range(len(sizes))]
    context = get_context("spawn")
    tallies: list[Tally] = []
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        for tally in pool.map(work, sizes, seeds):
            tallies.append(tally)
            done = sum(one.cases for one in tallies)
            failed = sum(one.failure is not None for one in tallies)
            print(f"{done}/{cases} {what}, {failed} shares with a failure", file=sys.stderr, flush=True)
    return summary(tallies, seeds)


def run(*, examples: int, inputs: int, workers: int, seed: int) -> dict[str, Any]:
    """Do both kinds of work in shares, each in a process of its own: what it leaves in memory ends."""
    scenarios = _shared(play_share, "scenarios", examples, SCENARIOS_A_SHARE, workers=workers, seed=seed)
    hostile = _shared(swallow_share, "hostile messages", inputs, INPUTS_A_SHARE, workers=workers, seed=seed)
    return {
        "schema_version": 1,
        "command": f"make properties EXAMPLES={examples} INPUTS={inputs} SEED={seed}",
        "passed": not (scenarios["failures"] or hostile["failures"]),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "scenarios": scenarios,
        "hostile_inputs": {key: hostile[key] for key in ("cases", "seeds", "seconds", "failures")},
    }


def main() -> int:
    """Run, write the record, say what it says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", type=Path, default=RECORD)
    given = parser.parse_args()
    result = run(examples=given.examples, inputs=given.inputs, workers=given.workers, seed=given.seed)
    given.record.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
