"""What can be deployed: a control plane and fleets. `context.py` reads and checks it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpu_node_bootstrap.node_agent.settings import WeightsLoad

# A node boots before its agent counts, and the agent's own verdict is to come before the hook's.
LAUNCH_HOOK_MARGIN_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class ControlPlaneConfig:
    """The control plane: one for each account and region."""

    notice_seconds: int
    """Seconds from an interruption notice to the node's end. EC2 gives 120; local runs may shorten it."""
    boot_limit_seconds: int
    """Seconds that a new node of any fleet may take until it is ready; an incident waits for two boots."""
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
    load_balancer_subnet_ids: tuple[str, ...] | None
    """None: the nodes' subnets, which are private and so serve an internal load balancer only."""


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


class MachineImage(StrEnum):
    """What a node's disk holds before it boots."""

    PLAIN = "plain"
    """The GPU base image: the node pulls vLLM's container and fetches the agent."""
    BAKED = "baked"
    """The image pipeline's newest: container and agent are there."""


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """The model's files in S3."""

    uri: str
    """`s3://BUCKET/PREFIX`, or `s3://BUCKET` for the whole bucket; no slash at its end."""
    load: WeightsLoad


@dataclass(frozen=True, kw_only=True)
class ImageVpc:
    """Where images are built and tested, by ids; both are needed (Image Builder's own rule)."""

    subnet_id: str
    security_group_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """The image pipeline: builds, tests and names the machine image that baked fleets boot from."""

    name: str
    instance_type: str
    """Builder's and tester's."""
    volume_gib: int
    """Size of the image's disk, and so of its snapshot."""
    base_ami_parameter: str
    weights_uri: str | None
    """`s3://BUCKET/PREFIX` of weights that are baked; None: none are."""
    compile_cache_uri: str | None
    """`s3://BUCKET/PREFIX` of compile caches that are baked; None: none are."""
    vpc: ImageVpc | None
    """None: the account's default VPC."""
    schedule: str | None
    """`cron(...)` in UTC; None: the pipeline runs when asked."""


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
    """Seconds a new node's engine has to answer its first completion before the node gives up."""
    notice_seconds: int
    """The control plane's; the deregistration delay follows it."""
    log_retention_days: int
    """The control plane's; the VPC's flow logs follow it."""
    machine_image: MachineImage
    ami_parameter: str
    """The image's own, or the pipeline's where the image is baked."""
    volume_initialization_rate_mibps: int | None
    """How fast EBS fills the disk from its snapshot; None: as fast as it happens to."""
    weights: WeightsConfig | None
    """None: the engine takes the model from the hub."""
    compile_cache: bool
    """Whether the fleet keeps compile caches, so that a new node need not compile again."""
    api_key_secret_arn: str | None
    """The secret that holds the engine's API key; None: the engine asks nobody for one."""
    vpc: NewVpc | ExistingVpc
    load_balancer: LoadBalancerConfig


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """Everything the app deploys."""

    control_plane: ControlPlaneConfig
    image: ImageConfig | None
    """None: no image pipeline."""
    fleets: tuple[FleetConfig, ...]
