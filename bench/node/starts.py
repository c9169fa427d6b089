"""How much later an engine answers under the agent than by itself: bare and managed starts, in turn."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.node.numbers import ratios, spread
from bench.node.solo_node import AGENT_BUCKET, AGENT_KEY, SoloNode, Surroundings, agent_archive
from local_aws.demo.boots import Boot, boot_from_status
from local_aws.engines import commands as engines
from local_aws.nodes.imds import RoleCredentials
from local_aws.nodes.machine import EngineProcess
from local_aws.session import LocalAws
from local_aws.world import EngineKind

ENGINE_PORT = 8000


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A bare and a managed start, one right after the other. Seconds to the first completion."""

    bare_seconds: float
    managed_seconds: float
    """From the machine's start: user data and agent included."""
    engine_seconds: float
    """The managed engine's own, from its process's start."""
    boot: Boot


def measure(
    engine: EngineKind, *, runs: int, aws: LocalAws, folder: Path, tell: Callable[[str], None]
) -> list[Pair]:
    """Start engines both ways, `runs` times; which way comes first changes from run to run."""
    around = surroundings(aws)
    pairs: list[Pair] = []
    for run in range(1, runs + 1):
        home = folder / f"node-{run}"
        if run % 2:
            bare = _bare(engine, folder)
            boot = _managed(engine, home, around)
        else:
            boot = _managed(engine, home, around)
            bare = _bare(engine, folder)
        ready, own = boot.ready_seconds, boot.engine_seconds
        assert ready is not None
        assert own is not None
        pairs.append(Pair(bare_seconds=bare, managed_seconds=ready, engine_seconds=own, boot=boot))
        tell(f"start {run}/{runs}: bare {bare:.1f} s, under the agent {ready:.1f} s ({ready / bare:.2f} x)")
    return pairs


def summary(pairs: list[Pair]) -> dict[str, Any]:
    """Return the figures as JSON values; each ratio is to the bare start of the same pair."""
    bare = [pair.bare_seconds for pair in pairs]
    last = pairs[-1].boot
    return {
        "runs": len(pairs),
        "bare_seconds": asdict(spread(bare)),
        "managed_seconds": asdict(spread([pair.managed_seconds for pair in pairs])),
        "managed_engine_seconds": asdict(spread([pair.engine_seconds for pair in pairs])),
        "managed_over_bare": asdict(spread(ratios([pair.managed_seconds for pair in pairs], bare))),
        "last_boot_seconds": {name: round(seconds, 3) for name, seconds in last.path.items()},
    }


def _bare(engine: EngineKind, folder: Path) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return engines.bare_start_seconds(engine, host="127.0.0.1", port=port, log_path=folder / "bare.log")


def _managed(engine: EngineKind, home: Path, around: Surroundings) -> Boot:
    with SoloNode(home, engine=lambda address: _engine(engine, address), around=around) as node:
        node.boot()
        boot = boot_from_status(node.wait_until("ready", lambda status: status.get("state") == "ready"))
        assert boot is not None
        return boot


def _engine(kind: EngineKind, address: str) -> EngineProcess:
    command = engines.engine_command(kind, host=address, port=ENGINE_PORT, model=engines.PREPARED_MODEL)
    return EngineProcess(command, engines.engine_environment(kind), str(engines.MODEL_DIRECTORY))


def surroundings(aws: LocalAws, **settings: str) -> Surroundings:
    """Return an AWS in which the agent's archive lies, credentials to fetch it with, and further settings."""
    storage = aws.client("s3")
    storage.create_bucket(Bucket=AGENT_BUCKET)
    storage.put_object(Bucket=AGENT_BUCKET, Key=AGENT_KEY, Body=agent_archive())
    return Surroundings(
        endpoint_url=aws.endpoint_url, credentials=operator_credentials(aws), settings=settings
    )


def operator_credentials(aws: LocalAws) -> RoleCredentials:
    """Return the operator's credentials in the shape in which IMDS gives a role's."""
    given = aws.client("sts").get_session_token()["Credentials"]
    return RoleCredentials(
        access_key_id=given["AccessKeyId"],
        secret_access_key=given["SecretAccessKey"],
        session_token=given["SessionToken"],
        expiration=given["Expiration"],
    )
