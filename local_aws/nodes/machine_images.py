"""The public SSM parameters that name AWS's machine images, and images for them to name."""

from __future__ import annotations

from typing import Any

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.parsing import ResourceMap
from moto.core.utils import unix_time
from moto.ec2.models import ec2_backends
from moto.ssm.models import Parameter, ssm_backends

from local_aws.world import World

# Amazon Linux's own parameters moto has already; these are the Deep Learning AMIs.
# https://docs.aws.amazon.com/dlami/latest/devguide/find-dlami-id.html
DEEP_LEARNING_IMAGES = tuple(
    f"/aws/service/deeplearning/ami/{architecture}/base-oss-nvidia-driver-gpu-{system}/latest/ami-id"
    for architecture in ("x86_64", "arm64")
    for system in ("amazon-linux-2023", "ubuntu-22.04", "ubuntu-24.04")
)


def install(world: World) -> None:
    """Register the images and their parameters; a parameter nobody knows fails the deployment by its name."""
    images = ec2_backends[world.account_id][world.region]
    parameters = ssm_backends[world.account_id][world.region]
    for name in DEEP_LEARNING_IMAGES:
        _, architecture, kind, _, _ = name.rsplit("/", 4)
        image = images.register_image(name=f"{kind}-{architecture}", description=f"stands in for {name}")
        # Not by put_parameter: as on AWS, it refuses names under /aws.
        parameters._parameters[name].append(
            Parameter(
                account_id=world.account_id,
                name=name,
                value=image.id,
                parameter_type="String",
                description=None,
                allowed_pattern=None,
                keyid=None,
                last_modified_date=unix_time(),
                version=1,
                data_type="text",
            )
        )

    def parse_ssm_parameter(_: ResourceMap, value: str, value_type: str) -> Any:
        parameter = parameters.get_parameter(value)
        if parameter is None:
            raise ValidationError(message=f"the local AWS has no SSM parameter {value}")
        return parameter.value.split(",") if "List" in value_type else parameter.value

    ResourceMap.parse_ssm_parameter = parse_ssm_parameter
