"""One deployed control plane, driven on a clock of its own, for the folders that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.local.faults.plane import Plane, deployed_plane


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """Deploy once."""
    with deployed_plane(tmp_path_factory.mktemp("faults")) as plane:
        yield plane
