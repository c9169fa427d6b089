"""Reads one fleet of the configuration, and refuses what cannot work."""

from __future__ import annotations

import re
from typing import Any, assert_never

from gpu_node_bootstrap.node_agent.settings import WeightsLoad
from infra.config import (
    LAUNCH_HOOK_MARGIN_SECONDS,
    ControlPlaneConfig,
    ExistingVpc,
    FleetConfig,
    ImageConfig,
    LoadBalancerConfig,
    MachineImage,
    NewVpc,
    WeightsConfig,
)
from infra.fields import Fields
from infra.names import baked_image_parameter

NAME = re.compile(r"[a-z][a-z0-9-]{0,22}[a-z0-9]|[a-z]")
NAME_SHAPE = "1 to 24 of a-z, 0-9 and dashes, beginning with a letter"
SUBNET = re.compile(r"subnet-[0-9a-f]{8,17}")
_ZONE = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d[a-z]")
_INSTANCE_TYPE = re.compile(r"(?P<family>[a-z0-9-]+)\.[a-z0-9]+")
# x86-64 instances with whole NVIDIA GPUs: what both the machine image and the vLLM image run on.
GPU_FAMILIES = (
    "g4dn",
    "g5",
    "g6",
    "g6e",
    "g7e",
    "gr6",
    "p4d",
    "p4de",
    "p5",
    "p5e",
    "p5en",
    "p6-b200",
    "p6-b300",
)
DEFAULT_INSTANCE_TYPES = ("g6e.xlarge", "g6e.2xlarge", "g6.2xlarge", "g6.4xlarge", "g5.2xlarge", "g5.4xlarge")
DEFAULT_MODEL = "Qwen/Qwen3-8B"
# 8 billion 16-bit weights fill 15.3 of a 24 GB GPU's 22 GiB; 8192 tokens of KV cache take 1.1 more.
# By itself vLLM captures some fifty sizes of batches at each start, which takes 47 s longer
# than these eight (docs/decisions/0220-the-image-holds-the-container-and-s3-the-weights.md).
_CAPTURE_SIZES = ("1", "4", "8", "16", "32", "64", "128", "256")
DEFAULT_ENGINE_ARGS = (
    *("--max-model-len", "8192", "--gpu-memory-utilization", "0.9"),
    *("--cudagraph-capture-sizes", *_CAPTURE_SIZES),
)
# The agent sets these, or talks to the engine as if they were unset.
NODE_AGENTS_ARGUMENTS = (
    *("--host", "--port", "--uds", "--model", "--served-model-name", "--shutdown-timeout"),
    *("--api-key", "--ssl-keyfile", "--ssl-certfile", "--root-path"),
)
_REFUSED_ARGUMENTS = {
    **dict.fromkeys(
        NODE_AGENTS_ARGUMENTS, f"what the node agent does not rule: {', '.join(NODE_AGENTS_ARGUMENTS)}"
    ),
    "--disable-log-stats": "arguments that leave vLLM's statistics on, for a drain reads its gauges",
    "--config": "the arguments themselves, for a file could hold some that the node agent rules",
}
DEFAULT_AMI_PARAMETER = (
    "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
)
# The widest that somebody has for their own: 10.0.0.0/8.
_WIDEST_CALLERS = 8


# EBS user guide, "Initialize Amazon EBS volumes": what a volume initialization rate may be, in MiB/s.
_INITIALIZATION_RATES = (100, 300)


def read_fleet(
    entry: Any, *, where: str, control_plane: ControlPlaneConfig, image: ImageConfig | None
) -> FleetConfig:
    """Read an entry of `fleets`; raises `ConfigError`. `where` is its place, for the error's text."""
    fields = Fields(entry, where=where)
    name = fields.text("name", pattern=NAME, shape=NAME_SHAPE)
    fields = fields.called(f"{where} ({name})")
    model = fields.text("model", default=DEFAULT_MODEL)
    nodes = fields.integer("nodes", default=2, low=0, high=500)
    vpc = _vpc(fields.section("vpc"))
    load_balancer = _load_balancer(fields.section("load_balancer"), vpc)
    machine_image = fields.member("machine_image", MachineImage, default=MachineImage.PLAIN)
    fleet = FleetConfig(
        name=name,
        model=model,
        served_model_name=fields.text("served_model_name", default=model),
        engine_args=_engine_args(fields),
        instance_types=_instance_types(fields),
        nodes=nodes,
        min_nodes=fields.integer("min_nodes", default=nodes, low=0, high=nodes),
        max_nodes=fields.integer("max_nodes", default=max(2 * nodes, 1), low=max(nodes, 1), high=1000),
        on_demand_base=fields.integer("on_demand_base", default=0, low=0, high=nodes),
        volume_gib=_volume_gib(fields, machine_image, image),
        # gp3 gives 0.25 MiB/s for each of its 3000 included IOPS at most.
        volume_throughput_mibps=fields.integer("volume_throughput_mibps", default=500, low=125, high=750),
        start_timeout_seconds=_start_timeout(fields),
        notice_seconds=control_plane.notice_seconds,
        log_retention_days=control_plane.log_retention_days,
        machine_image=machine_image,
        ami_parameter=_ami_parameter(fields, machine_image, image),
        volume_initialization_rate_mibps=_volume_initialization_rate(fields, machine_image),
        weights=_weights(fields.section("weights")) if fields.has("weights") else None,
        compile_cache=fields.boolean("compile_cache", default=True),
        api_key_secret_arn=fields.arn("api_key_secret_arn", service="secretsmanager"),
        vpc=vpc,
        load_balancer=load_balancer,
    )
    fields.nothing_else()
    return fleet


def _start_timeout(fields: Fields) -> int:
    # Auto Scaling waits 7200 s for a hook at most.
    high = 7200 - LAUNCH_HOOK_MARGIN_SECONDS
    return fields.integer("start_timeout_seconds", default=1800, low=60, high=high)


def _volume_gib(fields: Fields, machine_image: MachineImage, image: ImageConfig | None) -> int:
    # A disk cannot be smaller than the snapshot that it is made from.
    low = image.volume_gib if image is not None and machine_image is MachineImage.BAKED else 100
    return fields.integer("volume_gib", default=max(200, low), low=low, high=16384)


def _ami_parameter(fields: Fields, machine_image: MachineImage, image: ImageConfig | None) -> str:
    match machine_image:
        case MachineImage.PLAIN:
            return fields.parameter("ami_parameter", default=DEFAULT_AMI_PARAMETER)
        case MachineImage.BAKED:
            if image is None:
                raise fields.wrong(
                    "machine_image", "baked", '"plain", or an image pipeline under the key image'
                )
            if fields.has("ami_parameter"):
                raise fields.wrong(
                    "machine_image", "baked", '"plain" where ami_parameter names a machine image of your own'
                )
            return baked_image_parameter(image.name)
        case _:
            assert_never(machine_image)


def _volume_initialization_rate(fields: Fields, machine_image: MachineImage) -> int | None:
    low, high = _INITIALIZATION_RATES
    default = high if machine_image is MachineImage.BAKED else 0
    rate = fields.integer("volume_initialization_rate_mibps", default=default, low=0, high=high)
    if 0 < rate < low:
        raise fields.wrong("volume_initialization_rate_mibps", rate, f"0, or a number from {low} to {high}")
    return rate or None


def _weights(fields: Fields) -> WeightsConfig:
    uri = fields.s3_uri("uri")
    if uri is None:
        raise fields.missing("uri", 'a place like "s3://our-models/qwen3-8b"')
    weights = WeightsConfig(uri=uri, load=fields.member("load", WeightsLoad, default=WeightsLoad.STREAM))
    fields.nothing_else()
    return weights


def _engine_args(fields: Fields) -> tuple[str, ...]:
    arguments = fields.texts("engine_args", default=DEFAULT_ENGINE_ARGS)
    for argument in arguments:
        # vLLM takes both spellings.
        option = argument.split("=", 1)[0].replace("_", "-")
        if not option.startswith("--"):
            continue
        if re.search(r"\s", option):
            raise fields.wrong(
                "engine_args", argument, 'one text for an option and one for its value, like "--seed", "7"'
            )
        for refused, allowed in _REFUSED_ARGUMENTS.items():
            # vLLM's parser also takes the beginning of an option's name for the option.
            if refused.startswith(option):
                raise fields.wrong("engine_args", argument, allowed)
    return arguments


def _instance_types(fields: Fields) -> tuple[str, ...]:
    types = fields.texts("instance_types", default=DEFAULT_INSTANCE_TYPES, most=40)
    if not types:
        raise fields.wrong("instance_types", types, "a list of at least one instance type")
    for instance_type in types:
        gpu_instance_type(fields, "instance_types", instance_type)
    return fields.without_repeats("instance_types", types)


def gpu_instance_type(fields: Fields, key: str, value: str) -> str:
    """Return the value of a key, which has to be an instance type with NVIDIA GPUs; raises `ConfigError`."""
    match = _INSTANCE_TYPE.fullmatch(value)
    if match is None or match["family"] not in GPU_FAMILIES:
        raise fields.wrong(key, value, f"types of the NVIDIA GPU families {', '.join(GPU_FAMILIES)}")
    return value


def _vpc(fields: Fields) -> NewVpc | ExistingVpc:
    zones = fields.texts("availability_zones", pattern=_ZONE, shape='zone names like "us-east-1a"', most=6)
    zones = fields.without_repeats("availability_zones", zones)
    if fields.has("id"):
        vpc_id = fields.text(
            "id", pattern=re.compile(r"vpc-[0-9a-f]{8,17}"), shape='an id like "vpc-0abc12345678"'
        )
        vpc = ExistingVpc(
            vpc_id=vpc_id,
            availability_zones=zones,
            node_subnet_ids=_subnets(fields, "node_subnet_ids", zones),
            load_balancer_subnet_ids=_subnets(fields, "load_balancer_subnet_ids", zones)
            if fields.has("load_balancer_subnet_ids")
            else None,
        )
        fields.nothing_else()
        return vpc
    cidr = fields.cidr("cidr", default="10.60.0.0/16", shortest=16, longest=22)
    if len(zones) == 1:
        raise fields.wrong("availability_zones", list(zones), "two zones or more: a load balancer needs two")
    fields.nothing_else(hint="subnets can only be named together with the VPC's id")
    return NewVpc(cidr=cidr, availability_zones=zones)


def _subnets(fields: Fields, key: str, zones: tuple[str, ...]) -> tuple[str, ...]:
    subnets = fields.texts(key, pattern=SUBNET, shape='ids like "subnet-0abc12345678"', most=6)
    if len(zones) < 2 or len(subnets) != len(zones):
        raise fields.wrong(
            key, list(subnets), "one subnet for each of availability_zones, in its order, two or more"
        )
    return fields.without_repeats(key, subnets)


def _load_balancer(fields: Fields, vpc: NewVpc | ExistingVpc) -> LoadBalancerConfig:
    internet_facing = fields.boolean("internet_facing", default=False)
    certificate_arn = fields.arn("certificate_arn", service="acm")
    allowed = fields.cidrs("allowed_cidrs")
    if internet_facing and certificate_arn is None:
        raise fields.wrong(
            "internet_facing", True, "false, or a certificate_arn beside it: prompts are not sent in clear"
        )
    if internet_facing and isinstance(vpc, ExistingVpc) and vpc.load_balancer_subnet_ids is None:
        raise fields.wrong(
            "internet_facing", True, "false, or public subnets as vpc.load_balancer_subnet_ids"
        )
    if not allowed and (internet_facing or isinstance(vpc, ExistingVpc)):
        raise fields.wrong(
            "allowed_cidrs", [], "at least one range, in an existing VPC or when internet_facing"
        )
    for cidr in allowed:
        if int(cidr.split("/")[1]) < _WIDEST_CALLERS:
            raise fields.wrong(
                "allowed_cidrs",
                cidr,
                f"ranges of known callers, none wider than /{_WIDEST_CALLERS}: the engine asks nobody for a "
                "password",
            )
    config = LoadBalancerConfig(
        internet_facing=internet_facing,
        certificate_arn=certificate_arn,
        allowed_cidrs=allowed,
        idle_timeout_seconds=fields.integer("idle_timeout_seconds", default=600, low=1, high=4000),
        access_log_bucket=fields.bucket("access_log_bucket"),
    )
    fields.nothing_else()
    return config
