"""Fixtures of the property tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Read by Powertools when its logger is made, that is at the first import of the code under test.
os.environ |= {"POWERTOOLS_SERVICE_NAME": "properties", "POWERTOOLS_LOG_LEVEL": "INFO"}

from tests.simulation.world import in_memory


@pytest.fixture(scope="module")
def memory() -> Iterator[None]:
    """Clients of memory and virtual clocks for a module's tests."""
    with in_memory():
        yield
