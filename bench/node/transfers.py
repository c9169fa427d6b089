"""Image and weights over links of stated bandwidths: a boot waits for the longer one, not for both in turn.

The agent's own preparation runs, with a `docker` that pulls from a rate-limited server and the real AWS
command line against the local S3 behind a rate-limited proxy: registry and bucket have a link each.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.node.links import MEGABYTE, ByteServer, Link, Proxy
from gpu_node_bootstrap.node_agent.boot import Phase
from local_aws.session import LocalAws

IMAGE = "vllm/vllm-openai:bench"
WEIGHTS_BUCKET = "bench-weights"
PREPARE_SECONDS = 300.0
_HERE = Path(__file__).parent


class TransferError(RuntimeError):
    """The preparation failed; the message ends with what it printed."""


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One transfer: its bytes and its link's bandwidth in bytes a second."""

    phase: Phase
    size: int
    bandwidth: float

    @property
    def least_seconds(self) -> float:
        """What the transfer takes at the very least."""
        return self.size / self.bandwidth


IMAGE_LEG = Leg(phase=Phase.IMAGE, size=60 * MEGABYTE, bandwidth=10 * MEGABYTE)
WEIGHTS_LEG = Leg(phase=Phase.WEIGHTS, size=40 * MEGABYTE, bandwidth=10 * MEGABYTE)


@dataclass(frozen=True, kw_only=True)
class Transfers:
    """What each leg took, and what the preparation as a whole took. Seconds."""

    legs: tuple[Leg, ...]
    leg_seconds: Mapping[Phase, float]
    whole_seconds: float

    @property
    def longest(self) -> float:
        """The longest leg's seconds."""
        return max(self.leg_seconds.values())

    @property
    def total(self) -> float:
        """The seconds of all legs, had each waited for the one before."""
        return sum(self.leg_seconds.values())

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        legs = [
            {
                "phase": leg.phase.value,
                "megabytes": leg.size / MEGABYTE,
                "megabytes_per_second": leg.bandwidth / MEGABYTE,
                "least_seconds": round(leg.least_seconds, 3),
                "seconds": round(self.leg_seconds[leg.phase], 3),
            }
            for leg in self.legs
        ]
        return {
            "legs": legs,
            "preparation_seconds": round(self.whole_seconds, 3),
            "longest_leg_seconds": round(self.longest, 3),
            "sum_of_legs_seconds": round(self.total, 3),
        }


def measure(*, aws: LocalAws, folder: Path, tell: Callable[[str], None]) -> Transfers:
    """Let the agent prepare a container engine over the links. Raises TransferError."""
    _store_weights(aws)
    target = urlsplit(aws.endpoint_url)
    assert target.hostname is not None
    assert target.port is not None
    with (
        ByteServer(Link(IMAGE_LEG.bandwidth)) as registry,
        Proxy(Link(WEIGHTS_LEG.bandwidth), host=target.hostname, port=target.port) as storage,
    ):
        environment = _environment(aws, folder, registry=registry.url, storage=storage.url)
        done = subprocess.run(
            [sys.executable, "-m", "bench.node.prepare_once"],
            env=environment, cwd=_HERE.parents[1], capture_output=True, text=True,
            timeout=PREPARE_SECONDS, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        raise TransferError(f"the preparation failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    tell(f"transfers: prepared in {told['seconds']:.1f} s")
    seconds = {Phase(each["phase"]): float(each["seconds"]) for each in told["boot"]["phases"]}
    legs = (IMAGE_LEG, WEIGHTS_LEG)
    return Transfers(
        legs=legs,
        leg_seconds={leg.phase: seconds[leg.phase] for leg in legs},
        whole_seconds=float(told["seconds"]),
    )


def _store_weights(aws: LocalAws) -> None:
    storage = aws.client("s3")
    storage.create_bucket(Bucket=WEIGHTS_BUCKET)
    storage.put_object(Bucket=WEIGHTS_BUCKET, Key="model/config.json", Body=b"{}")
    storage.put_object(Bucket=WEIGHTS_BUCKET, Key="model/model.safetensors", Body=bytes(WEIGHTS_LEG.size))


def _environment(aws: LocalAws, folder: Path, *, registry: str, storage: str) -> dict[str, str]:
    """Return what the preparation reads: a node's settings, and a PATH that begins with the stand-ins."""
    tools = folder / "bin"
    tools.mkdir(parents=True)
    docker = [
        sys.executable,
        "-I",
        "-S",
        str(_HERE / "docker_tool.py"),
        str(folder),
        f"{registry}/{IMAGE_LEG.size}",
    ]
    _tool(tools / "docker", shlex.join(docker))
    _tool(tools / "aws", shlex.quote(str(Path(sys.prefix) / "bin" / "aws")))
    settings = {
        "FLEET": "bench",
        "REGION": aws.region,
        "ASG_NAME": "bench",
        "IMAGE": IMAGE,
        "MODEL": "bench/model",
        "SERVED_MODEL_NAME": "model",
        "WEIGHTS_URI": f"s3://{WEIGHTS_BUCKET}/model",
        "WEIGHTS_LOAD": "download",
        "CONTAINER_CACHE": str(folder / "cache"),
        "SOCKET": str(folder / "run" / "agent.sock"),
    }
    (folder / "run").mkdir()
    return {
        **aws.environment,
        "AWS_ENDPOINT_URL": storage,
        "PATH": f"{tools}:{aws.environment['PATH']}",
        **{f"SPOT_FAILOVER_{name}": value for name, value in settings.items()},
    }


def _tool(path: Path, command: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
