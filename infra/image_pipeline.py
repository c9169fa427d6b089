"""The image pipeline: EC2 Image Builder bakes vLLM's container and the agent, tests and names the image.

Image Builder acts through its service-linked role. That one's policy lets it read the base image's parameter
below `/aws/service/` and write the newest image's below `/imagebuilder/` (AWSServiceRoleForImageBuilder,
version 27), so no role of ours builds or distributes anything.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aws_cdk import CfnOutput, IgnoreMode, Stack
from aws_cdk import aws_imagebuilder as imagebuilder
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from gpu_node_bootstrap.user_data import AGENT_DIRECTORY, AGENT_EXCLUDES
from infra.config import ImageConfig
from infra.fleet import vllm_image
from infra.image_roles import builder_profile, clean_up_role
from infra.names import baked_image_parameter

BOOTSTRAP = AGENT_DIRECTORY.parent
COMPONENT = BOOTSTRAP / "image" / "component.yaml"
SCRIPTS = ("image/bake.sh", "image/check.sh", "image/clean.sh", "image/weights.py", "user_data.sh")
"""What a builder fetches; user_data.sh to try the image out as a node will."""
IMAGES_KEPT = 3
# gp3's cheapest is too slow to unpack 30 GB of layers; it lasts as long as the builder does.
_BUILDER_THROUGHPUT_MIBPS = 500


class ImagePipeline(Construct):
    """Builds on demand or on a schedule; a build that fails its tests names no image."""

    def __init__(self, scope: Construct, construct_id: str, *, config: ImageConfig) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self._name = f"spot-failover-{config.name}"
        # The same asset as the fleets': its key is what user data compares.
        self._agent = s3_assets.Asset(self, "Agent", path=str(AGENT_DIRECTORY), exclude=list(AGENT_EXCLUDES))
        self._scripts = s3_assets.Asset(
            self,
            "Scripts",
            path=str(BOOTSTRAP),
            exclude=["*", "!image", *(f"!{script}" for script in SCRIPTS)],
            ignore_mode=IgnoreMode.GIT,
        )
        recipe = self._recipe(self._component())
        self.pipeline = self._pipeline(recipe)
        self._clean_up()
        CfnOutput(self, "Arn", key="ImagePipeline", value=self.pipeline.attr_arn)

    def _component(self) -> imagebuilder.CfnComponent:
        document = COMPONENT.read_text(encoding="utf-8")
        return imagebuilder.CfnComponent(
            self,
            "Component",
            name=self._name,
            platform="Linux",
            version=version_of(document),
            data=document,
        )

    def _recipe(self, component: imagebuilder.CfnComponent) -> imagebuilder.CfnImageRecipe:
        content = self._recipe_content(component)
        written = json.dumps([Stack.of(self).resolve(content), component.version], sort_keys=True)
        return imagebuilder.CfnImageRecipe(
            self, "Recipe", name=self._name, version=version_of(written), **content
        )

    def _recipe_content(self, component: imagebuilder.CfnComponent) -> dict[str, Any]:
        parameters = {
            "Region": Stack.of(self).region,
            "Scripts": self._scripts.s3_object_url,
            "AgentBucket": self._agent.s3_bucket_name,
            "AgentKey": self._agent.s3_object_key,
            "Container": vllm_image(),
            "WeightsUri": self._config.weights_uri or "none",
            "CompileCacheUri": self._config.compile_cache_uri or "none",
        }
        # Plain data, so that it can be hashed as it is written; the CDK takes its own names in it.
        disk = {
            "volumeSize": self._config.volume_gib,
            "volumeType": "gp3",
            "throughput": _BUILDER_THROUGHPUT_MIBPS,
            "encrypted": True,
            "deleteOnTermination": True,
        }
        return {
            # Read at each build: a rebuild takes in what the base image's maker has fixed.
            "parent_image": f"ssm:{self._config.base_ami_parameter}",
            "components": [
                {
                    "componentArn": component.attr_arn,
                    "parameters": [{"name": name, "value": [value]} for name, value in parameters.items()],
                }
            ],
            "block_device_mappings": [{"deviceName": "/dev/xvda", "ebs": disk}],
        }

    def _infrastructure(self) -> imagebuilder.CfnInfrastructureConfiguration:
        vpc = self._config.vpc
        return imagebuilder.CfnInfrastructureConfiguration(
            self,
            "Infrastructure",
            name=self._name,
            instance_profile_name=builder_profile(
                self,
                agent=self._agent,
                scripts=self._scripts,
                baked=[uri for uri in (self._config.weights_uri, self._config.compile_cache_uri) if uri],
            ).ref,
            # With the nodes' kind of GPU: the image's test runs the engine's imports on it.
            instance_types=[self._config.instance_type],
            instance_metadata_options=imagebuilder.CfnInfrastructureConfiguration.InstanceMetadataOptionsProperty(
                http_tokens="required", http_put_response_hop_limit=1
            ),
            subnet_id=vpc.subnet_id if vpc else None,
            security_group_ids=list(vpc.security_group_ids) if vpc else None,
            # A GPU that nobody looks at is dear; the logs are in CloudWatch.
            terminate_instance_on_failure=True,
        )

    def _distribution(self) -> imagebuilder.CfnDistributionConfiguration:
        distribution = imagebuilder.CfnDistributionConfiguration
        return distribution(
            self,
            "Distribution",
            name=self._name,
            distributions=[
                distribution.DistributionProperty(
                    region=Stack.of(self).region,
                    ami_distribution_configuration={
                        "Name": f"{self._name}-{{{{ imagebuilder:buildDate }}}}",
                        "Description": f"GPU node with {vllm_image()} and the Spot Failover agent",
                        "AmiTags": {"Name": self._name, "spot-failover:image": self._config.name},
                    },
                    ssm_parameter_configurations=[
                        distribution.SsmParameterConfigurationProperty(
                            parameter_name=baked_image_parameter(self._config.name),
                            data_type="aws:ec2:image",
                        )
                    ],
                )
            ],
        )

    def _pipeline(self, recipe: imagebuilder.CfnImageRecipe) -> imagebuilder.CfnImagePipeline:
        pipeline = imagebuilder.CfnImagePipeline
        schedule = self._config.schedule
        return pipeline(
            self,
            "Pipeline",
            name=self._name,
            image_recipe_arn=recipe.attr_arn,
            infrastructure_configuration_arn=self._infrastructure().attr_arn,
            distribution_configuration_arn=self._distribution().attr_arn,
            image_tests_configuration=pipeline.ImageTestsConfigurationProperty(image_tests_enabled=True),
            enhanced_image_metadata_enabled=True,
            schedule=pipeline.ScheduleProperty(
                schedule_expression=schedule,
                # The other condition waits for a newer base image, and would pass over a newer container.
                pipeline_execution_start_condition="EXPRESSION_MATCH_ONLY",
            )
            if schedule
            else None,
        )

    def _clean_up(self) -> None:
        policy = imagebuilder.CfnLifecyclePolicy
        policy(
            self,
            "CleanUp",
            name=self._name,
            description=f"Keeps the last {IMAGES_KEPT} images, and any that started a node within the year.",
            execution_role=clean_up_role(self).role_arn,
            resource_type="AMI_IMAGE",
            # By recipe and not by tag: only scheduled builds pass a pipeline's tags to their images.
            resource_selection=policy.ResourceSelectionProperty(
                recipes=[policy.RecipeSelectionProperty(name=self._name, semantic_version="x.x.x")]
            ),
            policy_details=[
                policy.PolicyDetailProperty(
                    action=policy.ActionProperty(
                        type="DELETE",
                        include_resources=policy.IncludeResourcesProperty(amis=True, snapshots=True),
                    ),
                    filter=policy.FilterProperty(type="COUNT", value=IMAGES_KEPT),
                    # A fleet names its image until its next deployment, and launches nothing without it.
                    exclusion_rules=policy.ExclusionRulesProperty(
                        amis=policy.AmiExclusionRulesProperty(
                            last_launched=policy.LastLaunchedProperty(unit="YEARS", value=1)
                        )
                    ),
                )
            ],
        )


def version_of(content: str) -> str:
    """Return a version that is the content's own.

    Image Builder changes no version of a component or a recipe once it is made, and takes up to 2^30-1 in
    each place (API reference, CreateComponent). A version counted by hand would be forgotten once.
    """
    digest = hashlib.sha256(content.encode()).digest()
    return f"1.{int.from_bytes(digest[:3], 'big')}.{int.from_bytes(digest[3:6], 'big')}"
