"""The app is synthesized once: the repository's own configuration, and fleets that use every other option."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.infra.templates import REPOSITORY, Template

CERTIFICATE_ARN = "arn:aws:acm:us-east-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
SECRET_ARN = "arn:aws:secretsmanager:us-east-1:123456789012:secret:chat-key-AbCdEf"
IMAGE = {"name": "vllm"}
EXISTING_VPC_FLEET = {
    "name": "existing",
    "compile_cache": False,
    "weights": {"uri": "s3://our-models/qwen3-8b/", "load": "download"},
    "vpc": {
        "id": "vpc-0123456789abcdef0",
        "availability_zones": ["us-east-1a", "us-east-1b"],
        "node_subnet_ids": ["subnet-0aaaaaaaaaaaaaaa1", "subnet-0aaaaaaaaaaaaaaa2"],
    },
    "load_balancer": {"allowed_cidrs": ["10.0.0.0/8"], "access_log_bucket": "our-access-logs"},
}
PUBLIC_HTTPS_FLEET = {
    "name": "public",
    "model": "org/model-with-'quotes'-and-$dollars",
    "served_model_name": "chat",
    "engine_args": ["--max-model-len", "4096", '--json={"a": "b c"}'],
    "instance_types": ["g6.xlarge", "g5.xlarge"],
    "nodes": 4,
    "min_nodes": 2,
    "max_nodes": 9,
    "on_demand_base": 1,
    "start_timeout_seconds": 900,
    "machine_image": "baked",
    "weights": {"uri": "s3://our-models/org/chat"},
    "api_key_secret_arn": SECRET_ARN,
    "vpc": {"cidr": "10.90.0.0/16", "availability_zones": ["us-east-1a", "us-east-1b", "us-east-1c"]},
    "load_balancer": {
        "internet_facing": True,
        "certificate_arn": CERTIFICATE_ARN,
        "allowed_cidrs": ["203.0.113.0/24"],
        "idle_timeout_seconds": 1200,
    },
}


@pytest.fixture(scope="session")
def cdk_context() -> dict[str, Any]:
    """The context of cdk.json."""
    context: dict[str, Any] = json.loads((REPOSITORY / "cdk.json").read_text(encoding="utf-8"))["context"]
    return context


@pytest.fixture(scope="session")
def assembly(tmp_path_factory: pytest.TempPathFactory, cdk_context: dict[str, Any]) -> Path:
    """The folder of a synthesis that cdk-nag let pass; anything it found would have raised."""
    outdir = tmp_path_factory.mktemp("cdk.out")
    fleets = [*cdk_context["fleets"], EXISTING_VPC_FLEET, PUBLIC_HTTPS_FLEET]
    options = {"alarm_topic_arn": "arn:aws:sns:us-east-1:123456789012:pager", "image": IMAGE}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
        patch.setenv("CDK_VALIDATION", "false")  # cfn-lint checks the same templates in a test of its own
        from app import build  # noqa: PLC0415 (importing the CDK takes seconds; most tests do without)

        build({**cdk_context, **options, "fleets": fleets}, outdir=str(outdir)).synth()
    return outdir


@pytest.fixture(scope="session")
def control_plane(assembly: Path) -> Template:
    return Template.read(assembly / "SpotFailoverControlPlane.template.json")


@pytest.fixture(scope="session")
def fleet(assembly: Path) -> Template:
    """The fleet of cdk.json as it is in the repository."""
    return Template.read(assembly / "SpotFailoverFleet-default.template.json")


@pytest.fixture(scope="session")
def fleet_in_existing_vpc(assembly: Path) -> Template:
    return Template.read(assembly / "SpotFailoverFleet-existing.template.json")


@pytest.fixture(scope="session")
def public_fleet(assembly: Path) -> Template:
    return Template.read(assembly / "SpotFailoverFleet-public.template.json")
