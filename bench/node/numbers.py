"""Figures of repeated runs. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The least, the median and the most of some figures."""

    least: float
    median: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


def spread(figures: Sequence[float]) -> Spread:
    """Return the spread of figures, rounded to milliseconds. Raises ValueError where there are none."""
    if not figures:
        raise ValueError("no figures")
    least, median, most = min(figures), statistics.median(figures), max(figures)
    return Spread(round(least, 3), round(median, 3), round(most, 3))


def ratios(figures: Sequence[float], baselines: Sequence[float]) -> list[float]:
    """Return each figure over the baseline of its own run, so that a slow minute slows both."""
    return [figure / baseline for figure, baseline in zip(figures, baselines, strict=True)]
