"""The stacks. They only compose."""

from __future__ import annotations

from aws_cdk import CfnOutput, DefaultStackSynthesizer, Stack
from constructs import Construct

from infra.config import ControlPlaneConfig, FleetConfig, ImageConfig
from infra.failover import Failover
from infra.fleet import Fleet
from infra.image_pipeline import ImagePipeline
from infra.names import ASSET_PREFIX, baked_image_parameter
from infra.network import FleetNetwork
from infra.node_commands import NodeCommands


class ControlPlaneStack(Stack):
    """Once for each account and region; serves every fleet that carries the tag."""

    def __init__(self, scope: Construct, *, config: ControlPlaneConfig) -> None:
        super().__init__(
            scope,
            "SpotFailoverControlPlane",
            description="Spot Failover: drains and replaces the vLLM nodes that EC2 Spot takes away.",
        )
        commands = NodeCommands(self, "NodeCommands", notice_seconds=config.notice_seconds)
        failover = Failover(self, "Failover", config=config, commands=commands)
        CfnOutput(self, "IncidentsTable", value=failover.incidents.table_name)
        CfnOutput(self, "DrainDocument", value=commands.drain_document_name)


class ImagePipelineStack(Stack):
    """Builds, tests and names the machine image that baked fleets boot from."""

    def __init__(self, scope: Construct, *, config: ImageConfig) -> None:
        super().__init__(
            scope,
            f"SpotFailoverImage-{config.name}",
            description=f"Spot Failover: machine image {config.name}: vLLM and the node agent, baked.",
            synthesizer=_node_assets(),
        )
        ImagePipeline(self, "Pipeline", config=config)
        CfnOutput(self, "AmiParameter", value=baked_image_parameter(config.name))


class FleetStack(Stack):
    """One fleet of vLLM nodes."""

    def __init__(self, scope: Construct, *, config: FleetConfig) -> None:
        super().__init__(
            scope,
            f"SpotFailoverFleet-{config.name}",
            description=f"Spot Failover: fleet {config.name}, vLLM on EC2 Spot behind a load balancer.",
            synthesizer=_node_assets(),
        )
        network = FleetNetwork(self, "Network", config=config)
        fleet = Fleet(self, "Fleet", config=config, network=network)
        scheme = "https" if config.load_balancer.certificate_arn else "http"
        CfnOutput(self, "Endpoint", value=f"{scheme}://{fleet.load_balancer.load_balancer_dns_name}")
        CfnOutput(self, "AutoScalingGroup", value=fleet.group.ref)
        if fleet.storage.artifacts is not None:
            CfnOutput(self, "ArtifactsBucket", value=fleet.storage.artifacts.bucket_name)
        CfnOutput(self, "NodeLogs", value=fleet.storage.log_group.log_group_name)
        CfnOutput(self, "TargetGroup", value=fleet.target_group.target_group_arn)


def _node_assets() -> DefaultStackSynthesizer:
    """Keep the agent where nodes may read it; a baked node finds it under the same key in its image."""
    return DefaultStackSynthesizer(bucket_prefix=ASSET_PREFIX)
