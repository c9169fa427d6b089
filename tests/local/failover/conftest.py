"""One deployed local AWS with a small fleet on the emulated engine, for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local_aws.session import LocalAws
from tests.local.failover.deployed_fleet import CONTROL_PLANE, FLEET, NOTICE_SECONDS, DeployedFleet


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedFleet]:
    """Deploy once for all tests of this folder, with the real CDK command line."""
    with LocalAws(tmp_path_factory.mktemp("local-aws"), engine="emulated") as aws:
        settings = {"name": FLEET, "model": "tiny", "served_model_name": "tiny", "nodes": 2}
        outcome = aws.deploy({"fleets": [settings], "notice_seconds": str(NOTICE_SECONDS)})
        deployed = DeployedFleet(aws, outcome.outputs[CONTROL_PLANE]["IncidentsTable"])
        deployed.whole()
        yield deployed
