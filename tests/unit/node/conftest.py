"""Nodes for tests: the agent as a process, over the emulated engine, with IMDS and the AWS command faked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.node import node_kit
from tests.unit.node.fakes import FakeAws, FakeImds
from tests.unit.node.node_kit import NodeMaker, oldest_python


@pytest.fixture(scope="session")
def kit() -> Any:
    """Return what tests share."""
    return node_kit


@pytest.fixture(scope="session")
def python39() -> str:
    found = oldest_python()
    if found is None:
        pytest.skip("no Python 3.9 on this machine")
    return found


@pytest.fixture
def imds() -> Iterator[FakeImds]:
    fake = FakeImds()
    yield fake
    fake.close()


@pytest.fixture
def aws(tmp_path: Path) -> FakeAws:
    return FakeAws(tmp_path / "bin")


@pytest.fixture
def make_node(tmp_path: Path, imds: FakeImds, aws: FakeAws) -> Iterator[NodeMaker]:
    maker = NodeMaker(tmp_path, imds, aws)
    yield maker
    maker.clean_up()
