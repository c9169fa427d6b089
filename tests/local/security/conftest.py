"""What the functions' roles are tried on."""

from __future__ import annotations

import pytest

from tests.local.faults.plane import Plane
from tests.local.security.outside import Things, make_things


@pytest.fixture(scope="session")
def things(plane: Plane) -> Things:
    """Make what belongs to somebody else, once."""
    return make_things(plane)
