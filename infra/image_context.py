"""Reads the image pipeline of the configuration, and refuses what cannot work."""

from __future__ import annotations

import re
from typing import Any

from infra.config import ImageConfig, ImageVpc
from infra.fields import Fields
from infra.fleet_context import DEFAULT_AMI_PARAMETER, NAME, NAME_SHAPE, SUBNET, gpu_instance_type

DEFAULT_IMAGE_NAME = "vllm"
DEFAULT_BUILDER = "g6.xlarge"
# Image Builder's service-linked role reads no other parameters (its managed policy).
_BASE_AMI = re.compile(r"/(aws/service|imagebuilder)/[A-Za-z0-9_./-]+")
_BASE_AMI_SHAPE = 'an SSM parameter below "/aws/service/" or "/imagebuilder/"'


def read_image(value: Any) -> ImageConfig:
    """Read the context key `image`; raises `ConfigError`."""
    fields = Fields(value, where="image")
    image = ImageConfig(
        name=fields.text("name", default=DEFAULT_IMAGE_NAME, pattern=NAME, shape=NAME_SHAPE),
        instance_type=gpu_instance_type(
            fields, "instance_type", fields.text("instance_type", default=DEFAULT_BUILDER)
        ),
        # The base image's own disk is of 75 GiB; bake.sh says so where what is free of it does not do.
        volume_gib=fields.integer("volume_gib", default=100, low=100, high=1024),
        base_ami_parameter=fields.text(
            "base_ami_parameter", default=DEFAULT_AMI_PARAMETER, pattern=_BASE_AMI, shape=_BASE_AMI_SHAPE
        ),
        weights_uri=fields.s3_uri("weights_uri"),
        compile_cache_uri=fields.s3_uri("compile_cache_uri"),
        vpc=_vpc(fields.section("vpc")) if fields.has("vpc") else None,
        schedule=fields.optional_text(
            "schedule",
            pattern=re.compile(r"cron\([0-9A-Za-z*?/,# -]+\)"),
            shape='a time in UTC like "cron(0 4 ? * sun *)"',
        ),
    )
    fields.nothing_else()
    return image


def _vpc(fields: Fields) -> ImageVpc:
    groups = fields.texts(
        "security_group_ids",
        pattern=re.compile(r"sg-[0-9a-f]{8,17}"),
        shape='ids like "sg-0abc12345678"',
        most=5,
    )
    if not groups:
        raise fields.wrong("security_group_ids", [], "at least one, to go with the subnet")
    vpc = ImageVpc(
        subnet_id=fields.text("subnet_id", pattern=SUBNET, shape='an id like "subnet-0abc12345678"'),
        security_group_ids=fields.without_repeats("security_group_ids", groups),
    )
    fields.nothing_else()
    return vpc
