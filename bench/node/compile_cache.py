"""What a restored compile cache saves: vLLM with torch's compiler, cold, and warm by the agent's archive.

Everywhere else local nodes run vLLM with --enforce-eager, which compiles nothing and starts soonest.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.node.numbers import ratios, spread
from gpu_node_bootstrap.node_agent.commands import Commands
from gpu_node_bootstrap.node_agent.compile_cache import CompileCache
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.settings import Settings
from local_aws.engines import commands as engines
from local_aws.session import LocalAws
from local_aws.world import EngineKind

BUCKET = "bench-artifacts"
COMPILER = "g++"
_EAGER = "--enforce-eager"
# A cold start compiles on two slow cores.
_START_SECONDS = 600.0
_MEGABYTE = 1_000_000


class CacheError(RuntimeError):
    """The cache did not do what is to be measured; the message says what it did."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A cold start, and one after a restore of what it compiled. Seconds."""

    cold_seconds: float
    warm_seconds: float
    restore_seconds: float
    restored_bytes: int


def measure(
    engine: EngineKind, *, runs: int, aws: LocalAws, folder: Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Return the figures as JSON values, or why there are none. Raises CacheError and EngineStartError."""
    if (reason := skipped(engine)) is not None:
        tell(f"compile cache: skipped, {reason}")
        return {"skipped": reason}
    aws.client("s3").create_bucket(Bucket=BUCKET)
    pairs: list[Pair] = []
    with _operator(aws):
        for run in range(1, runs + 1):
            pairs.append(_pair(folder / str(run), prefix=f"run-{run}", region=aws.region))
            tell(
                f"compile cache {run}/{runs}: cold {pairs[-1].cold_seconds:.1f} s,"
                f" warm {pairs[-1].warm_seconds:.1f} s after {pairs[-1].restore_seconds:.1f} s of restoring"
            )
    return summary(pairs)


def skipped(engine: EngineKind) -> str | None:
    """Return why this machine cannot measure it, None where it can."""
    if engine == "emulated":
        return "an emulated engine compiles nothing"
    if shutil.which(COMPILER) is None:
        return f"torch's compiler needs {COMPILER}, and there is none on this machine"
    return None


def summary(pairs: list[Pair]) -> dict[str, Any]:
    """Return the figures as JSON values; each ratio is within a pair, and the restore counts as warm."""
    cold = [pair.cold_seconds for pair in pairs]
    warm = [pair.restore_seconds + pair.warm_seconds for pair in pairs]
    return {
        "runs": len(pairs),
        "megabytes": round(max(pair.restored_bytes for pair in pairs) / _MEGABYTE, 3),
        "cold_seconds": asdict(spread(cold)),
        "warm_seconds": asdict(spread([pair.warm_seconds for pair in pairs])),
        "restore_seconds": asdict(spread([pair.restore_seconds for pair in pairs])),
        "restore_and_warm_over_cold": asdict(spread(ratios(warm, cold))),
    }


def _pair(folder: Path, *, prefix: str, region: str) -> Pair:
    cold_cache = _cache(folder / "cold", prefix=prefix, region=region)
    if (missed := cold_cache.restore()).get("source") != "none":
        raise CacheError(f"the first start was to find no cache, and found {missed}")
    cold = _start(folder / "cold")
    cold_cache.save()
    began = time.monotonic()
    restored = _cache(folder / "warm", prefix=prefix, region=region).restore()
    restore = time.monotonic() - began
    size = restored.get("bytes")
    if restored.get("source") != "s3" or not isinstance(size, int):
        raise CacheError(f"the second start was to find the first one's cache, and found {restored}")
    return Pair(
        cold_seconds=cold,
        warm_seconds=_start(folder / "warm"),
        restore_seconds=restore,
        restored_bytes=size,
    )


def _start(folder: Path) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = engines.engine_command("real", host="127.0.0.1", port=port)
    with engines.bare_engine(
        "real",
        host="127.0.0.1",
        port=port,
        log_path=folder / "engine.log",
        cache_dir=folder,
        timeout_seconds=_START_SECONDS,
        command=[word for word in command if word != _EAGER],
    ) as engine:
        return engine.start_seconds


def _cache(folder: Path, *, prefix: str, region: str) -> CompileCache:
    settings = Settings.from_environment(
        {
            "SPOT_FAILOVER_FLEET": "bench",
            "SPOT_FAILOVER_REGION": region,
            "SPOT_FAILOVER_ASG_NAME": "bench",
            "SPOT_FAILOVER_IMAGE": "bench",
            "SPOT_FAILOVER_MODEL": engines.SERVED_MODEL_NAME,
            "SPOT_FAILOVER_SERVED_MODEL_NAME": engines.SERVED_MODEL_NAME,
            "SPOT_FAILOVER_ARTIFACTS_URI": f"s3://{BUCKET}/{prefix}",
        }
    )
    root = Path(engines.engine_environment("real", cache_dir=folder)["VLLM_CACHE_ROOT"])
    quiet = Log(stream=io.StringIO(), fleet="bench")
    return CompileCache(settings, root=root, owner=None, commands=Commands(), log=quiet)


@contextmanager
def _operator(aws: LocalAws) -> Iterator[None]:
    """Let the AWS command line that the agent's code runs be the local AWS's operator."""
    before = dict(os.environ)
    os.environ.update(aws.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
