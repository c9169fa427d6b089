"""Plays the lives side by side: an engine takes long to start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local_aws.engines.tiny_model import ensure_tiny_model
from tests.local.node_life.lives import crash, hang, lose_gpu, never_start, notice_while_starting

# Two cores: a third engine that starts at the same time makes all three slower.
AT_ONCE = 2


@pytest.fixture(scope="session")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Callable[[Path], Any]], Any]]:
    """Play all lives; return a function from the life to what was seen of it."""
    ensure_tiny_model()
    # The longest first.
    plays = (crash, hang, lose_gpu, never_start, notice_while_starting)
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        played: dict[Callable[[Path], Any], Future[Any]] = {
            play: pool.submit(play, tmp_path_factory.mktemp(play.__name__)) for play in plays
        }
        yield lambda play: played[play].result()
