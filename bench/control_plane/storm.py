"""`python -m bench.control_plane.storm`: storms of interruptions, against the baselines, in one run.

All contenders get the same fleets of bare nodes on a fresh local AWS with the same limits on requests. Writes
out/bench/storm.json, and with --record docs/measured/storm.json. Ends with 1 where a promise is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.control_plane import single, tables
from bench.control_plane.contenders import PLAIN, Contender, deploy_ours, deploy_published
from bench.control_plane.fleets import Fleets, FleetsNotReadyError, make_fleets, spread_over
from bench.control_plane.outcome import Action
from bench.control_plane.storms import Storm, run_storm
from bench.control_plane.verdicts import Verdict, judge
from local_aws.deploy import REPOSITORY, DeployError
from local_aws.session import LocalAws, LocalAwsError

OUT = Path("out/bench")
RECORD = REPOSITORY / "docs/measured/storm.json"
NOT_KEPT, NOT_MEASURED = 1, 2
PLAIN_WIDTH = 150
NODES_OF_A_LONE_FLEET = 8
# Nobody acts before the deadline without a handler, however long it is.
PLAIN_NOTICE_SECONDS = 5.0
# Below any real boot, and the least that a drain takes (the node agent's settle time): neither is over while
# the storm's own requests are made.
BOOT_SECONDS, DRAIN_SECONDS = 20.0, 15.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What to measure. `concurrency` is for how many events at once the baseline's function is run."""

    nodes: int
    fleets: int
    repeats: int
    concurrency: int
    record: bool

    @property
    def nodes_each(self) -> int:
        """The nodes of one fleet. One of them stays, so that nobody has to be kept for want of another."""
        return -(-self.nodes // self.fleets) + 1

    @property
    def all_nodes(self) -> int:
        """All nodes there are."""
        return self.fleets * self.nodes_each

    @property
    def sizes(self) -> list[int]:
        """Storms of ten times the size each, up to all nodes."""
        return [size for size in (1, 10, 100) if size < self.nodes] + [self.nodes]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; return 0, 1 for a promise not kept, 2 where nothing could be measured."""
    options = _parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    try:
        made, verdicts = measure(options, console)
    except (DeployError, FleetsNotReadyError, LocalAwsError, single.NoAnswerError) as err:
        console.print(f"The bench broke off: {err}", markup=False, highlight=False, soft_wrap=True)
        return NOT_MEASURED
    for path in (OUT / "storm.json", *([RECORD] if options.record else [])):
        _keep(made, path)
        console.print(str(path), highlight=False)
    return 0 if all(each.kept for each in verdicts) else NOT_KEPT


def measure(options: Options, console: Console) -> tuple[dict[str, Any], list[Verdict]]:
    """Measure each part in turn; return all figures as JSON values, and what is kept."""

    def tell(text: str) -> None:
        now = datetime.now(UTC).strftime("%H:%M:%S")
        console.print(f"[{now}] {text}", markup=False, highlight=False)

    folder = (OUT / "storm").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    began = datetime.now(UTC)
    ours = _our_storms(folder, options, tell)
    plain, plain_whole, published = _baselines(folder, options, tell)
    made = _figures(options, began, ours, published, plain, plain_whole)
    console.print()
    tables.show_storms(console, contenders=[ours[-1], published, plain], ours=ours)
    # Half the figures are better than none, should what follows break off.
    _keep(made, OUT / "storm.json")
    lone = _lone_interruptions(folder, options, tell)
    medians = {
        "ours": lone[ours[-1].contender.name]["last_seconds"]["median"],
        "published": lone[published.contender.name]["first_seconds"]["median"],
    }
    verdicts = judge(ours, published, single=medians)
    tables.show_promises(console, single=lone, verdicts=verdicts)
    made |= {"one_interruption_warm": lone, "promises": [asdict(each) for each in verdicts]}
    return made, verdicts


def _figures(
    options: Options, began: datetime, ours: Sequence[Storm], published: Storm, plain: Storm, whole: float
) -> dict[str, Any]:
    """Return the storms' figures; `whole` is how many seconds plain Auto Scaling took to be whole again."""
    return {
        "measured_at": began.isoformat(timespec="seconds"),
        "command": f"python -m bench.control_plane.storm --nodes {options.nodes} --fleets {options.fleets}",
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "published_pattern_concurrency": options.concurrency,
        "storms": [storm.to_json() for storm in ours],
        "published_pattern": published.to_json(),
        "plain_auto_scaling": {**plain.to_json(), "whole_again_seconds": round(whole, 1)},
    }


def _keep(made: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=2) + "\n")


def _local_aws(folder: Path, name: str) -> LocalAws:
    return LocalAws(folder / name, engine="none")


def _lone_interruptions(folder: Path, options: Options, tell: Tell) -> dict[str, Any]:
    tell("one interruption at a time: two local AWS side by side")
    with _local_aws(folder, "lone-ours") as one, _local_aws(folder, "lone-published") as other:
        sides = [
            single.Side(deploy_ours(one), make_fleets(one, fleets=1, nodes_each=NODES_OF_A_LONE_FLEET)),
            single.Side(
                deploy_published(other, concurrency=options.concurrency),
                make_fleets(other, fleets=1, nodes_each=NODES_OF_A_LONE_FLEET),
            ),
        ]
        for side in sides:
            side.fleets.whole(NODES_OF_A_LONE_FLEET)
            side.fleets.aws.control.bare_nodes(boot_seconds=BOOT_SECONDS, drain_seconds=DRAIN_SECONDS)
            side.fleets.aws.control.throttle(True)
        return single.summary(single.measure(sides, repeats=options.repeats, tell=tell))


def _our_storms(folder: Path, options: Options, tell: Tell) -> list[Storm]:
    with _local_aws(folder, "ours") as aws:
        contender = deploy_ours(aws)
        fleets = _fleets(aws, options, tell)
        for name in contender.functions:
            # As many as their queues are polled for.
            aws.control.warm_function(name, 2)
        return [_storm(fleets, contender, size, options, tell) for size in options.sizes]


def _baselines(folder: Path, options: Options, tell: Tell) -> tuple[Storm, float, Storm]:
    """Return plain Auto Scaling's storm, the seconds until it was whole, and the published pattern's."""
    with _local_aws(folder, "baselines") as aws:
        fleets = _fleets(aws, options, tell)
        began = time.time()
        plain = _storm(fleets, PLAIN, options.nodes, options, tell, notice_seconds=PLAIN_NOTICE_SECONDS)
        fleets.whole(options.all_nodes)
        whole_after = time.time() - began
        contender = deploy_published(aws, concurrency=options.concurrency)
        tell(f"warming {options.concurrency} environments of the published pattern's function")
        aws.control.warm_function(contender.functions[0], options.concurrency)
        return plain, whole_after, _storm(fleets, contender, options.nodes, options, tell)


def _fleets(aws: LocalAws, options: Options, tell: Tell) -> Fleets:
    fleets = make_fleets(aws, fleets=options.fleets, nodes_each=options.nodes_each)
    count = len(fleets.whole(options.all_nodes))
    tell(f"{count} nodes in {options.fleets} fleets are in service")
    aws.control.bare_nodes(boot_seconds=BOOT_SECONDS, drain_seconds=DRAIN_SECONDS)
    return fleets


def _storm(
    fleets: Fleets,
    contender: Contender,
    size: int,
    options: Options,
    tell: Tell,
    *,
    notice_seconds: float = 120.0,
) -> Storm:
    nodes = fleets.whole(options.all_nodes)
    storm = run_storm(fleets.aws, contender, spread_over(nodes, size), notice_seconds=notice_seconds)
    shares = ", ".join(f"{action} {storm.share(action):.1%}" for action in Action)
    tell(f"{contender.name}, {size} nodes: {shares}; last action after {storm.last_action_seconds:.1f} s")
    return storm


def _parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m bench.control_plane.storm",
        description="Interrupt many nodes in the same second; needs no AWS account.",
    )
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--fleets", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=10, help="of one interruption by itself")
    parser.add_argument("--concurrency", type=int, default=64, help="of the published pattern's function")
    parser.add_argument("--record", action="store_true", help=f"keep the figures in {RECORD.name} as well")
    given = parser.parse_args(arguments)
    for name in ("nodes", "fleets", "repeats", "concurrency"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} is 1 or more, not {getattr(given, name)}")
    if given.nodes < given.fleets:
        parser.error(f"{given.nodes} nodes are too few for {given.fleets} fleets")
    return Options(**vars(given))


if __name__ == "__main__":
    sys.exit(main())
