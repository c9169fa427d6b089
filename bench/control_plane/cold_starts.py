"""One cold start, in an interpreter of its own: run as a script by `bench.control_plane.cold_start`.

`python cold_starts.py real FUNCTION` imports a function's handler; `python cold_starts.py clients FUNCTION`
tells which clients that makes; `python cold_starts.py bare CLIENTS` makes those and nothing else. The seconds
are those of an interpreter that has Lambda's runtime client in it, as Lambda's has. The bundle is the working
directory.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

importlib.import_module("awslambdaric.bootstrap")


def real(function: str) -> dict[str, Any]:
    """Import the handler as Lambda does."""
    begun = _times()
    importlib.import_module(f"{function}.handler")
    return _since(begun)


def bare(clients: list[list[Any]]) -> dict[str, Any]:
    """Make clients, each given by its service and the options of its configuration."""
    begun = _times()
    import boto3  # noqa: PLC0415 (the import is what is measured)
    from botocore.config import Config  # noqa: PLC0415

    made = [boto3.client(service, config=Config(**options)) for service, options in clients]
    return {**_since(begun), "clients": len(made)}


def clients(function: str) -> dict[str, Any]:
    """Import the handler and tell which clients it makes on the way."""
    import boto3  # noqa: PLC0415

    made: list[list[Any]] = []
    make = boto3.client

    def recorded(service: str, *, config: Any) -> Any:
        options = ("connect_timeout", "read_timeout", "retries")
        made.append([service, {name: getattr(config, name) for name in options}])
        return make(service, config=config)

    boto3.client = recorded  # type: ignore[assignment]
    importlib.import_module(f"{function}.handler")
    return {"clients": made}


def _times() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begun: tuple[float, float]) -> dict[str, Any]:
    seconds, processor_seconds = (now - then for now, then in zip(_times(), begun, strict=True))
    return {"seconds": seconds, "processor_seconds": processor_seconds}


if __name__ == "__main__":
    sys.path.insert(0, ".")
    what, argument = sys.argv[1:]
    answer = (
        bare(json.loads(argument)) if what == "bare" else {"real": real, "clients": clients}[what](argument)
    )
    print(json.dumps(answer))
