"""The real command line against a local AWS: the app deploys whole, and a bad one fails with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local_aws.deploy import DeployError


def test_app_deploys_whole_and_what_it_deploys_is_there(bench: Any) -> None:
    outcome = bench.aws.deploy({})
    assert set(outcome.outputs) == {"SpotFailoverControlPlane", "SpotFailoverFleet-default"}
    functions = bench.aws.client("lambda").list_functions()["Functions"]
    assert {each["Handler"] for each in functions} >= {
        "deregister_target.handler.handler",
        "drain_node.handler.handler",
        "request_replacement.handler.handler",
        "track_incident.handler.handler",
    }
    mappings = bench.aws.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    assert {each["BatchSize"] for each in mappings} == {10}
    document = bench.aws.client("ssm").get_document(Name="SpotFailover-DrainNode")
    assert '"schemaVersion"' in document["Content"]


def test_error_of_the_app_is_the_error_of_the_deployment(bench: Any) -> None:
    with pytest.raises(DeployError, match="fleets is 7; allowed: a list of fleets"):
        bench.aws.deploy({"fleets": 7})


def test_resource_that_is_not_emulated_fails_the_deployment_by_its_type(
    bench: Any, tmp_path: Path, python: str
) -> None:
    app = tmp_path / "app.py"
    app.write_text(
        "import aws_cdk as cdk\n"
        "app = cdk.App()\n"
        "cdk.CfnResource(cdk.Stack(app, 'Odd'), 'X', type='AWS::Quantum::Flux')\n"
        "app.synth()\n"
    )
    with pytest.raises(DeployError, match="no model for the resource type AWS::Quantum::Flux"):
        bench.aws.deploy(app=f"{python} {app}")
