"""The image pipeline: what it builds from, what may build it, when it names an image, and what it deletes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.infra.templates import REPOSITORY, Template

COMPONENT = REPOSITORY / "gpu_node_bootstrap" / "image" / "component.yaml"
FULL = {
    "name": "full",
    "instance_type": "g6e.xlarge",
    "volume_gib": 150,
    "weights_uri": "s3://our-models/qwen3-8b",
    "compile_cache_uri": "s3://artifacts/compile-cache",
    "schedule": "cron(0 4 ? * sun *)",
    "vpc": {"subnet_id": "subnet-0123456789abcdef0", "security_group_ids": ["sg-0123456789abcdef0"]},
}
VARIANTS = {"larger": {"name": "larger", "volume_gib": 200}, "plain": {"name": "plain"}}


@pytest.fixture(scope="module")
def synthesized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a synthesis that cdk-nag let pass."""
    outdir = tmp_path_factory.mktemp("image.out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
        patch.setenv("CDK_VALIDATION", "false")
        from aws_cdk import App  # noqa: PLC0415 (importing the CDK takes seconds)

        from infra import nag  # noqa: PLC0415
        from infra.image_context import read_image  # noqa: PLC0415
        from infra.stacks import ImagePipelineStack  # noqa: PLC0415

        app = App(outdir=str(outdir), analytics_reporting=False)
        for entry in ({}, FULL, *VARIANTS.values()):
            ImagePipelineStack(app, config=read_image(entry))
        nag.check(app)
        app.synth()
    return outdir


def template(synthesized: Path, name: str) -> Template:
    return Template.read(synthesized / f"SpotFailoverImage-{name}.template.json")


@pytest.fixture(scope="module")
def image(synthesized: Path) -> Template:
    """The pipeline without any option."""
    return template(synthesized, "vllm")


@pytest.fixture(scope="module")
def full(synthesized: Path) -> Template:
    return template(synthesized, "full")


def parameters(image: Template) -> dict[str, str]:
    (component,) = image.only("AWS::ImageBuilder::ImageRecipe")["Components"]
    return {each["Name"]: image.text(each["Value"][0]) for each in component["Parameters"]}


def test_cfn_lint_finds_nothing(synthesized: Path) -> None:
    templates = [str(path) for path in sorted(synthesized.glob("*.template.json"))]
    assert len(templates) == 4
    command = [str(Path(sys.executable).parent / "cfn-lint"), "--", *templates]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_grows_on_the_newest_gpu_base_image_with_an_encrypted_disk(full: Template) -> None:
    recipe = full.only("AWS::ImageBuilder::ImageRecipe")
    assert recipe["ParentImage"].startswith("ssm:/aws/service/deeplearning/ami/x86_64/")
    assert recipe["BlockDeviceMappings"] == [
        {
            "DeviceName": "/dev/xvda",
            "Ebs": {
                "DeleteOnTermination": True,
                "Encrypted": True,
                "Throughput": 500,
                "VolumeSize": 150,
                "VolumeType": "gp3",
            },
        }
    ]


def test_the_component_is_the_document_and_gets_each_of_its_parameters(image: Template) -> None:
    component = image.only("AWS::ImageBuilder::Component")
    document = COMPONENT.read_text(encoding="utf-8")
    assert component["Data"] == document
    assert set(parameters(image)) == {
        name for each in yaml.safe_load(document)["parameters"] for name in each
    }


def test_the_baked_agent_is_the_one_that_a_fleets_user_data_asks_for(
    image: Template, fleet: Template
) -> None:
    user_data = fleet.text(fleet.only("AWS::EC2::LaunchTemplate")["LaunchTemplateData"]["UserData"])
    assert f"AGENT_KEY='{parameters(image)['AgentKey']}'" in user_data
    assert f'SPOT_FAILOVER_IMAGE="{parameters(image)["Container"]}"' in user_data


def test_a_builder_fetches_the_scripts_and_nothing_else_of_the_folder(
    image: Template, synthesized: Path
) -> None:
    key = parameters(image)["Scripts"].rpartition("/")[2]
    folder = synthesized / f"asset.{key.removesuffix('.zip')}"
    held = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert held == {
        "image/bake.sh",
        "image/check.sh",
        "image/clean.sh",
        "image/weights.py",
        "user_data.sh",
    }


def builder_statements(image: Template) -> list[Any]:
    (role,) = [name for name in image.resources("AWS::IAM::Role") if "Builder" in name]
    return list(image.statements(role))


def test_a_builder_may_read_its_two_archives_and_no_more_of_ours(image: Template) -> None:
    (statement,) = builder_statements(image)
    assert statement.actions == ("s3:GetObject",)
    bucket = "cdk-hnb659fds-assets-123456789012-us-east-1"
    keys = {parameters(image)["AgentKey"], parameters(image)["Scripts"].removeprefix(f"s3://{bucket}/")}
    assert set(statement.resources) == {f"arn:aws:s3:::{bucket}/{key}" for key in keys}


def test_a_builder_may_read_the_compile_caches_that_it_bakes(full: Template) -> None:
    *_, listing, reading = builder_statements(full)
    assert listing.resources == ("arn:aws:s3:::artifacts",)
    assert reading.resources == ("arn:aws:s3:::artifacts/compile-cache/*",)


def test_a_builder_may_read_the_weights_that_it_bakes_and_no_neighbours(full: Template) -> None:
    _, listing, reading, *_ = builder_statements(full)
    assert (listing.actions, listing.resources) == (("s3:ListBucket",), ("arn:aws:s3:::our-models",))
    assert listing.conditions == {"StringLike": {"s3:prefix": ["qwen3-8b", "qwen3-8b/*"]}}
    assert (reading.actions, reading.resources) == (
        ("s3:GetObject",),
        ("arn:aws:s3:::our-models/qwen3-8b/*",),
    )


def test_an_image_is_named_after_its_tests_alone_and_where_image_builder_may_write(image: Template) -> None:
    pipeline = image.only("AWS::ImageBuilder::ImagePipeline")
    assert pipeline["ImageTestsConfiguration"] == {"ImageTestsEnabled": True}
    assert "ExecutionRole" not in pipeline
    (distribution,) = image.only("AWS::ImageBuilder::DistributionConfiguration")["Distributions"]
    assert distribution["SsmParameterConfigurations"] == [
        {"DataType": "aws:ec2:image", "ParameterName": "/imagebuilder/spot-failover/vllm/ami-id"}
    ]
    assert "{{ imagebuilder:buildDate }}" in distribution["AmiDistributionConfiguration"]["Name"]


def test_builders_speak_imdsv2_and_end_when_they_fail(full: Template) -> None:
    infrastructure = full.only("AWS::ImageBuilder::InfrastructureConfiguration")
    assert infrastructure["InstanceMetadataOptions"] == {
        "HttpPutResponseHopLimit": 1,
        "HttpTokens": "required",
    }
    assert infrastructure["TerminateInstanceOnFailure"] is True
    assert infrastructure["InstanceTypes"] == ["g6e.xlarge"]
    assert infrastructure["SubnetId"] == "subnet-0123456789abcdef0"
    assert infrastructure["SecurityGroupIds"] == ["sg-0123456789abcdef0"]


def test_it_runs_on_demand_and_on_a_schedule_only_where_one_is_given(image: Template, full: Template) -> None:
    assert "Schedule" not in image.only("AWS::ImageBuilder::ImagePipeline")
    assert full.only("AWS::ImageBuilder::ImagePipeline")["Schedule"] == {
        "PipelineExecutionStartCondition": "EXPRESSION_MATCH_ONLY",
        "ScheduleExpression": "cron(0 4 ? * sun *)",
    }


def test_old_images_go_with_their_snapshots_but_none_that_a_fleet_still_starts(image: Template) -> None:
    policy = image.only("AWS::ImageBuilder::LifecyclePolicy")
    (detail,) = policy["PolicyDetails"]
    assert detail["Action"] == {"IncludeResources": {"Amis": True, "Snapshots": True}, "Type": "DELETE"}
    assert detail["Filter"] == {"Type": "COUNT", "Value": 3}
    assert detail["ExclusionRules"] == {"Amis": {"LastLaunched": {"Unit": "YEARS", "Value": 1}}}
    recipe = image.only("AWS::ImageBuilder::ImageRecipe")["Name"]
    assert policy["ResourceSelection"] == {"Recipes": [{"Name": recipe, "SemanticVersion": "x.x.x"}]}


def test_a_recipe_that_differs_in_anything_has_another_version(synthesized: Path) -> None:
    versions = {
        name: template(synthesized, name).only("AWS::ImageBuilder::ImageRecipe")["Version"]
        for name in ("vllm", "full", *VARIANTS)
    }
    assert versions["vllm"] == versions["plain"]
    assert len(set(versions.values())) == 3


def test_versions_stay_when_the_content_does(synthesized: Path) -> None:
    found = {
        path.name: json.loads(path.read_text(encoding="utf-8"))["Resources"]
        for path in synthesized.glob("*.template.json")
    }
    components = {
        resource["Properties"]["Version"]
        for resources in found.values()
        for resource in resources.values()
        if resource["Type"] == "AWS::ImageBuilder::Component"
    }
    assert len(components) == 1


@given(st.text())
def test_any_content_has_a_version_that_image_builder_takes(content: str) -> None:
    from infra.image_pipeline import version_of  # noqa: PLC0415 (importing the CDK takes seconds)

    parts = [int(part) for part in version_of(content).split(".")]
    assert len(parts) == 3
    assert all(0 <= part < 2**30 for part in parts)
    assert version_of(content) != version_of(content + " ")
