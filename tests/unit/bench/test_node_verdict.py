"""When the node bench fails: real engines alone are judged, by the median of the pairs."""

from __future__ import annotations

from typing import Any

import pytest

from bench.node.__main__ import too_slow


def made(median: float, *, engine: str = "real") -> dict[str, Any]:
    return {"engine": engine, "starts": {"managed_over_bare": {"least": 1.0, "median": median, "most": 2.0}}}


@pytest.mark.parametrize("figures", [made(1.0), made(1.10), made(3.0, engine="emulated")])
def test_bench_passes_where_the_node_is_quick_or_its_engine_made_up(figures: dict[str, Any]) -> None:
    assert too_slow(figures) is None


def test_bench_fails_where_the_node_comes_long_after_its_engine() -> None:
    assert too_slow(made(1.11)) == "A node took 1.11 x its engine's bare start (median); the limit is 1.10 x."
