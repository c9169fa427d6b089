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


BAKED_FLEET = {
    "name": "baked",
    "nodes": 0,
    "machine_image": "baked",
    "weights": {"uri": "s3://our-models/qwen3-8b", "load": "stream"},
    "api_key_secret_arn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:key-AbCdEf",
}


def test_image_pipeline_and_a_fleet_that_boots_from_its_image_deploy(bench: Any) -> None:
    images = bench.aws.client("ec2").describe_images(Owners=["amazon"])["Images"]
    bench.aws.client("ssm").put_parameter(
        Name="/imagebuilder/spot-failover/vllm/ami-id", Value=images[0]["ImageId"], Type="String"
    )
    outcome = bench.aws.deploy({"image": {}, "fleets": [BAKED_FLEET]})
    assert set(outcome.outputs) >= {"SpotFailoverImage-vllm", "SpotFailoverFleet-baked"}
    groups = bench.aws.client("logs").describe_log_groups(logGroupNamePrefix="/spot-failover/nodes/")
    assert "/spot-failover/nodes/baked" in [group["logGroupName"] for group in groups["logGroups"]]
    (reader,) = [
        role["RoleName"]
        for role in bench.aws.client("iam").list_roles()["Roles"]
        if "WeightsReader" in role["RoleName"]
    ]
    trust = bench.aws.client("iam").get_role(RoleName=reader)["Role"]["AssumeRolePolicyDocument"]
    (statement,) = trust["Statement"]
    lender = statement["Principal"]["AWS"].rsplit("/", 1)[1]
    (lend,) = set(bench.aws.client("iam").list_role_policies(RoleName=lender)["PolicyNames"]) - {"node"}
    document = bench.aws.client("iam").get_role_policy(RoleName=lender, PolicyName=lend)["PolicyDocument"]
    assert document["Statement"][0]["Action"] == "sts:AssumeRole"
    assert document["Statement"][0]["Resource"].endswith(f"role/{reader}")


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
