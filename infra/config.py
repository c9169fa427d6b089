"""What is to be deployed, read from the CDK context and checked before anything is synthesized.

`docs/configuration.md` describes every key for operators. A wrong value raises `ConfigError`, whose text is
one sentence: what is wrong, where, and what is allowed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.fields import ConfigError, Fields

# The CDK's own keys hold a colon, a slash or a dash (`@aws-cdk/...`, `cli-telemetry`); ours never do.
_OUR_KEYS = re.compile(r"[a-z0-9_]+", re.IGNORECASE)
_FLEET_NAME = re.compile(r"[a-z][a-z0-9-]{0,22}[a-z0-9]|[a-z]")
_HOST_IN_CIDR = re.compile(r"(\d{1,3}\.){3}\d{1,3}/\d{1,2}")
_SUBNET = re.compile(r"subnet-[0-9a-f]{8,17}")
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
DEFAULT_ENGINE_ARGS = ("--max-model-len", "8192", "--gpu-memory-utilization", "0.9")
DEFAULT_AMI_PARAMETER = (
    "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
)
_ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, kw_only=True)
class ControlPlaneConfig:
    """The control plane: one for each account and region."""

    notice_seconds: int
    """Seconds from an interruption notice to the node's end. EC2 gives 120; local runs may shorten it."""
    incident_ttl_days: int
    log_retention_days: int
    alarm_topic_arn: str | None
    """An existing SNS topic that every alarm tells; None: alarms only show in CloudWatch."""


@dataclass(frozen=True, kw_only=True)
class NewVpc:
    """A VPC of the fleet's own: public and private subnets in each zone, one NAT gateway."""

    cidr: str
    availability_zones: tuple[str, ...]
    """Zones by name; empty: the region's first two."""


@dataclass(frozen=True, kw_only=True)
class ExistingVpc:
    """Somebody's VPC, by ids, so that a synth needs no lookup."""

    vpc_id: str
    availability_zones: tuple[str, ...]
    node_subnet_ids: tuple[str, ...]
    load_balancer_subnet_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LoadBalancerConfig:
    """The fleet's way in."""

    internet_facing: bool
    certificate_arn: str | None
    """HTTPS on 443 with this ACM certificate; None: HTTP on 80."""
    allowed_cidrs: tuple[str, ...]
    """Who may connect; empty: the new VPC's own range."""
    idle_timeout_seconds: int
    access_log_bucket: str | None


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """One fleet: vLLM nodes on spot behind a load balancer."""

    name: str
    model: str
    served_model_name: str
    engine_args: tuple[str, ...]
    instance_types: tuple[str, ...]
    nodes: int
    min_nodes: int
    max_nodes: int
    on_demand_base: int
    volume_gib: int
    volume_throughput_mibps: int
    start_timeout_seconds: int
    """Seconds a new node has to answer its first completion before it is given up and replaced."""
    notice_seconds: int
    """The control plane's; the deregistration delay follows it."""
    log_retention_days: int
    """The control plane's; the VPC's flow logs follow it."""
    ami_parameter: str
    vpc: NewVpc | ExistingVpc
    load_balancer: LoadBalancerConfig


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """Everything the app deploys."""

    control_plane: ControlPlaneConfig
    fleets: tuple[FleetConfig, ...]


# The values CloudWatch Logs accepts that make sense here.
LOG_RETENTION_DAYS = (1, 3, 7, 14, 30, 90, 180, 365, 731)


def app_config(context: Mapping[str, Any]) -> AppConfig:
    """Read the whole configuration from the CDK context; raises `ConfigError`."""
    ours = {key: value for key, value in context.items() if _OUR_KEYS.fullmatch(key)}
    fields = Fields(ours, where="the context")
    control_plane = ControlPlaneConfig(
        notice_seconds=fields.integer("notice_seconds", default=120, low=10, high=120),
        incident_ttl_days=fields.integer("incident_ttl_days", default=30, low=1, high=3650),
        log_retention_days=fields.choice("log_retention_days", default=30, allowed=LOG_RETENTION_DAYS),
        alarm_topic_arn=fields.arn("alarm_topic_arn", service="sns"),
    )
    entries = _fleet_entries(fields.raw("fleets", default=[]))
    fields.nothing_else()
    fleets = tuple(
        _fleet(entry, where=f"fleets[{index}]", control_plane=control_plane)
        for index, entry in enumerate(entries)
    )
    _refuse_duplicates(fleets)
    return AppConfig(control_plane=control_plane, fleets=fleets)


def _fleet_entries(value: Any) -> list[Any]:
    """Take the list from cdk.json, or the JSON text of `-c fleets='[...]'`, which arrives as a string."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as err:
            raise ConfigError(
                f'fleets is not valid JSON ({err}); give a list like \'[{{"name": "chat"}}]\''
            ) from err
    if not isinstance(value, list):
        raise ConfigError(f"fleets must be a list of fleets, not {json.dumps(value)}")
    return value


def _refuse_duplicates(fleets: tuple[FleetConfig, ...]) -> None:
    first_seen: dict[str, int] = {}
    for index, fleet in enumerate(fleets):
        if fleet.name in first_seen:
            raise ConfigError(
                f"fleets[{first_seen[fleet.name]}] and fleets[{index}] are both named"
                f" {json.dumps(fleet.name)}; allowed: each name once."
            )
        first_seen[fleet.name] = index


def _fleet(entry: Any, *, where: str, control_plane: ControlPlaneConfig) -> FleetConfig:
    fields = Fields(entry, where=where)
    name = fields.text(
        "name", pattern=_FLEET_NAME, shape="1 to 24 of a-z, 0-9 and dashes, beginning with a letter"
    )
    fields = fields.called(f"{where} ({name})")
    model = fields.text("model", default=DEFAULT_MODEL)
    nodes = fields.integer("nodes", default=2, low=0, high=500)
    vpc = _vpc(fields.section("vpc"))
    load_balancer = _load_balancer(fields.section("load_balancer"), vpc)
    fleet = FleetConfig(
        name=name,
        model=model,
        served_model_name=fields.text("served_model_name", default=model),
        engine_args=fields.texts("engine_args", default=DEFAULT_ENGINE_ARGS),
        instance_types=_instance_types(fields),
        nodes=nodes,
        min_nodes=fields.integer("min_nodes", default=nodes, low=0, high=nodes),
        max_nodes=fields.integer("max_nodes", default=max(2 * nodes, 1), low=max(nodes, 1), high=1000),
        on_demand_base=fields.integer("on_demand_base", default=0, low=0, high=nodes),
        volume_gib=fields.integer("volume_gib", default=200, low=100, high=16384),
        volume_throughput_mibps=fields.integer("volume_throughput_mibps", default=500, low=125, high=1000),
        start_timeout_seconds=fields.integer("start_timeout_seconds", default=1800, low=60, high=7200),
        notice_seconds=control_plane.notice_seconds,
        log_retention_days=control_plane.log_retention_days,
        ami_parameter=fields.text(
            "ami_parameter",
            default=DEFAULT_AMI_PARAMETER,
            pattern=re.compile(r"/[A-Za-z0-9_./-]+"),
            shape="the name of an SSM parameter",
        ),
        vpc=vpc,
        load_balancer=load_balancer,
    )
    fields.nothing_else()
    return fleet


def _instance_types(fields: Fields) -> tuple[str, ...]:
    types = fields.texts("instance_types", default=DEFAULT_INSTANCE_TYPES, most=40)
    if not types:
        raise fields.wrong("instance_types", types, "a list of at least one instance type")
    for instance_type in types:
        match = _INSTANCE_TYPE.fullmatch(instance_type)
        if match is None or match["family"] not in GPU_FAMILIES:
            raise fields.wrong(
                "instance_types", instance_type, f"types of the NVIDIA GPU families {', '.join(GPU_FAMILIES)}"
            )
    return fields.without_repeats("instance_types", types)


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
            load_balancer_subnet_ids=_subnets(fields, "load_balancer_subnet_ids", zones),
        )
        fields.nothing_else()
        return vpc
    cidr = fields.cidr("cidr", default="10.60.0.0/16", shortest=16, longest=24)
    if len(zones) == 1:
        raise fields.wrong("availability_zones", list(zones), "two zones or more: a load balancer needs two")
    fields.nothing_else(hint="subnets can only be named together with the VPC's id")
    return NewVpc(cidr=cidr, availability_zones=zones)


def _subnets(fields: Fields, key: str, zones: tuple[str, ...]) -> tuple[str, ...]:
    subnets = fields.texts(key, pattern=_SUBNET, shape='ids like "subnet-0abc12345678"', most=6)
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
    if not allowed and (internet_facing or isinstance(vpc, ExistingVpc)):
        raise fields.wrong(
            "allowed_cidrs", [], "at least one range, in an existing VPC or when internet_facing"
        )
    if _ANYWHERE in allowed:
        raise fields.wrong(
            "allowed_cidrs", _ANYWHERE, "ranges of known callers: the engine asks nobody for a password"
        )
    config = LoadBalancerConfig(
        internet_facing=internet_facing,
        certificate_arn=certificate_arn,
        allowed_cidrs=allowed,
        idle_timeout_seconds=fields.integer("idle_timeout_seconds", default=600, low=1, high=4000),
        access_log_bucket=fields.optional_text(
            "access_log_bucket",
            pattern=re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"),
            shape="the name of an S3 bucket",
        ),
    )
    fields.nothing_else()
    return config
