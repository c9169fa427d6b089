"""Who the engine is in its container, what it can write there, and how it is told its secrets."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from .settings import Settings

CONTAINER_NAME = "spot-failover-engine"
CONTAINER_USER = (2000, 0)
"""User and group of the account `vllm`, which the official image has for those who do not want to be root
(vllm-project/vllm#40275)."""
CONTAINER_CACHE = "/cache"
"""The one place in the container that can be written and outlives it."""
CONTAINER_WEIGHTS = "/weights"


def engine_cache(settings: Settings) -> Path:
    """Return what the container sees as its cache."""
    return Path(settings.container_cache, "engine")


def weights_folder(settings: Settings) -> Path:
    """Return what the container sees as its weights, and cannot write."""
    return Path(settings.container_cache, "weights")


def make_folders(settings: Settings) -> None:
    """Make what is mounted into the container; docker would make it as root's. Raises OSError."""
    weights_folder(settings).mkdir(parents=True, exist_ok=True)
    cache = engine_cache(settings)
    for folder in (cache, cache / "vllm"):
        folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            # The engine may have put a link there: nothing of the machine's becomes its own by that.
            os.chown(folder, *CONTAINER_USER, follow_symlinks=False)


@contextlib.contextmanager
def secrets_file(settings: Settings, environment: Mapping[str, str]) -> Iterator[Path]:
    """Give the environment as a file that only root reads, for as long as docker needs it. Raises OSError.

    It is in the agent's runtime directory, which is in memory: nothing of it reaches a disk.
    """
    path = Path(settings.socket).parent / "engine.env"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.writelines(f"{name}={_one_line(name, value)}\n" for name, value in environment.items())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _one_line(name: str, value: str) -> str:
    if "\n" in value:
        raise OSError(f"{name} is more than one line, which an env file does not hold")
    return value
