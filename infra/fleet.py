"""A fleet: vLLM nodes on spot behind a load balancer, whose health checks each node's agent answers."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration, Size, Stack, Tags
from aws_cdk import aws_autoscaling as autoscaling
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from gpu_node_bootstrap.user_data import (
    AGENT_DIRECTORY,
    AGENT_EXCLUDES,
    UserDataSettings,
    render_user_data,
)
from infra.config import LAUNCH_HOOK_MARGIN_SECONDS, FleetConfig
from infra.nag import acknowledge
from infra.names import (
    ENGINE_PORT,
    FLEET_TAG_KEY,
    HEALTH_PATH,
    HEALTH_PORT,
    LAUNCH_HOOK_NAME,
    group_name,
)
from infra.network import FleetNetwork, listener_port
from infra.node_role import NodeRole
from infra.node_storage import NodeStorage


class Fleet(Construct):
    """Load balancer, target group, launch template and Auto Scaling group of one fleet."""

    def __init__(
        self, scope: Construct, construct_id: str, *, config: FleetConfig, network: FleetNetwork
    ) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self._network = network
        self.target_group = self._target_group()
        self.load_balancer = self._load_balancer()
        self.storage = NodeStorage(self, "Storage", config=config)
        self._agent = s3_assets.Asset(self, "Agent", path=str(AGENT_DIRECTORY), exclude=list(AGENT_EXCLUDES))
        self.node_role = NodeRole(self, "Node", config=config, agent=self._agent, storage=self.storage)
        self.launch_template = self._launch_template()
        self.group = self._group()

    def _target_group(self) -> elbv2.ApplicationTargetGroup:
        group = elbv2.ApplicationTargetGroup(
            self,
            "Targets",
            vpc=self._network.vpc,
            target_type=elbv2.TargetType.INSTANCE,
            protocol=elbv2.ApplicationProtocol.HTTP,
            port=ENGINE_PORT,
            load_balancing_algorithm_type=elbv2.TargetGroupLoadBalancingAlgorithmType.LEAST_OUTSTANDING_REQUESTS,
            # A deregistered node keeps its connections until EC2 ends it, and not the default 300 s.
            deregistration_delay=Duration.seconds(self._config.notice_seconds),
            # Two failures, 5 s apart: a draining node gets no new request even with the control plane down.
            health_check=elbv2.HealthCheck(
                path=HEALTH_PATH,
                port=str(HEALTH_PORT),
                interval=Duration.seconds(5),
                timeout=Duration.seconds(3),
                healthy_threshold_count=2,
                unhealthy_threshold_count=2,
                healthy_http_codes="200",
            ),
        )
        Tags.of(group).add(FLEET_TAG_KEY, self._config.name)
        return group

    def _load_balancer(self) -> elbv2.ApplicationLoadBalancer:
        config = self._config.load_balancer
        balancer = elbv2.ApplicationLoadBalancer(
            self,
            "LoadBalancer",
            vpc=self._network.vpc,
            vpc_subnets=ec2.SubnetSelection(subnets=self._network.load_balancer_subnets),
            internet_facing=config.internet_facing,
            security_group=self._network.load_balancer_group,
            # A request that is not streamed is silent until its last token.
            idle_timeout=Duration.seconds(config.idle_timeout_seconds),
            drop_invalid_header_fields=True,
        )
        if config.access_log_bucket is None:
            acknowledge(
                balancer,
                "Access logs need a bucket, which the operator can name in the configuration.",
                "ELB2",
            )
        else:
            balancer.set_attribute("access_logs.s3.enabled", "true")
            balancer.set_attribute("access_logs.s3.bucket", config.access_log_bucket)
            balancer.set_attribute("access_logs.s3.prefix", group_name(self._config.name))
        secure = config.certificate_arn is not None
        balancer.add_listener(
            "Listener",
            port=listener_port(config),
            protocol=elbv2.ApplicationProtocol.HTTPS if secure else elbv2.ApplicationProtocol.HTTP,
            certificates=[elbv2.ListenerCertificate.from_arn(config.certificate_arn)]
            if config.certificate_arn
            else None,
            ssl_policy=elbv2.SslPolicy.TLS13_RES if secure else None,
            default_target_groups=[self.target_group],
            # The security group names the callers.
            open=False,
        )
        return balancer

    def _launch_template(self) -> ec2.LaunchTemplate:
        user_data = render_user_data(
            self._node_settings(),
            agent_bucket=self._agent.s3_bucket_name,
            agent_key=self._agent.s3_object_key,
        )
        rate = self._config.volume_initialization_rate_mibps
        template = ec2.LaunchTemplate(
            self,
            "LaunchTemplate",
            # Resolved at deploy and not at launch: a replacement is the same as the node it replaces.
            machine_image=ec2.MachineImage.from_ssm_parameter(
                self._config.ami_parameter, os=ec2.OperatingSystemType.LINUX
            ),
            user_data=ec2.UserData.custom(user_data),
            role=self.node_role.role,
            security_group=self._network.node_group,
            # No key: Session Manager opens a shell. One hop: a container on a bridge cannot be the node.
            require_imdsv2=True,
            http_endpoint=True,
            http_put_response_hop_limit=1,
            instance_metadata_tags=False,
            block_devices=[
                ec2.BlockDevice(
                    device_name="/dev/xvda",
                    volume=ec2.BlockDeviceVolume.ebs(
                        self._config.volume_gib,
                        encrypted=True,
                        volume_type=ec2.EbsDeviceVolumeType.GP3,
                        throughput=self._config.volume_throughput_mibps,
                        volume_initialization_rate=Size.mebibytes(rate) if rate else None,
                        delete_on_termination=True,
                    ),
                )
            ],
        )
        Tags.of(template).add("Name", group_name(self._config.name))
        return template

    def _group(self) -> autoscaling.CfnAutoScalingGroup:
        config = self._config
        name = group_name(config.name)
        subnets = self._network.node_subnets
        group = autoscaling.CfnAutoScalingGroup(
            self,
            "Group",
            auto_scaling_group_name=name,
            min_size=str(config.min_nodes),
            max_size=str(config.max_nodes),
            desired_capacity=str(config.nodes),
            vpc_zone_identifier=[subnet.subnet_id for subnet in subnets],
            target_group_arns=[self.target_group.target_group_arn],
            mixed_instances_policy=self._mixed_instances(),
            # One owner of replacements: request_replacement.
            capacity_rebalance=False,
            # A node whose engine is lost is replaced, too, and not only one whose machine is.
            health_check_type="ELB",
            # A node comes into service ready; the load balancer needs two checks to see it.
            health_check_grace_period=60,
            # Replace first, end then: what Auto Scaling replaces by itself leaves no gap either.
            instance_maintenance_policy=autoscaling.CfnAutoScalingGroup.InstanceMaintenancePolicyProperty(
                min_healthy_percentage=100, max_healthy_percentage=200
            ),
            # Inline: a hook that is a resource of its own misses the first instances (aws/aws-cdk#16356).
            lifecycle_hook_specification_list=[_launch_hook(config)],
            tags=_tags_of_nodes({FLEET_TAG_KEY: config.name, "Name": name}),
        )
        acknowledge(group, "Scaling events reach track_incident through EventBridge, without a topic.", "AS3")
        acknowledge(
            group, "The launch template's only volume is encrypted; the rule cannot look there.", "EC26"
        )
        # The first nodes need their way out, to fetch the agent, and a listener, to be checked at all.
        # They need all that they may do, too: part of it is attached to their role behind it.
        group.node.add_dependency(
            self.load_balancer, self.node_role, *(s.internet_connectivity_established for s in subnets)
        )
        return group

    def _mixed_instances(self) -> autoscaling.CfnAutoScalingGroup.MixedInstancesPolicyProperty:
        policy = autoscaling.CfnAutoScalingGroup
        return policy.MixedInstancesPolicyProperty(
            instances_distribution=policy.InstancesDistributionProperty(
                on_demand_base_capacity=self._config.on_demand_base,
                on_demand_percentage_above_base_capacity=0,
                spot_allocation_strategy="price-capacity-optimized",
            ),
            launch_template=policy.LaunchTemplateProperty(
                launch_template_specification=policy.LaunchTemplateSpecificationProperty(
                    launch_template_id=self.launch_template.launch_template_id,
                    version=self.launch_template.latest_version_number,
                ),
                overrides=[
                    policy.LaunchTemplateOverridesProperty(instance_type=instance_type)
                    for instance_type in self._config.instance_types
                ],
            ),
        )

    def _node_settings(self) -> UserDataSettings:
        config, reader = self._config, self.node_role.weights_reader
        return UserDataSettings(
            fleet=config.name,
            region=Stack.of(self).region,
            asg_name=group_name(config.name),
            lifecycle_hook=LAUNCH_HOOK_NAME,
            image=vllm_image(),
            model=config.model,
            served_model_name=config.served_model_name,
            engine_args=config.engine_args,
            start_limit_seconds=config.start_timeout_seconds,
            engine_port=ENGINE_PORT,
            health_port=HEALTH_PORT,
            weights_uri=config.weights.uri if config.weights else None,
            weights_load=config.weights.load.value if config.weights else None,
            weights_role=reader.role_arn if reader else None,
            artifacts_uri=self.storage.artifacts_uri,
            api_key_secret=config.api_key_secret_arn,
            log_group=self.storage.log_group.log_group_name,
            event_bus="default",
        )


def _tags_of_nodes(tags: Mapping[str, str]) -> list[autoscaling.CfnAutoScalingGroup.TagPropertyProperty]:
    tag = autoscaling.CfnAutoScalingGroup.TagPropertyProperty
    return [tag(key=key, value=value, propagate_at_launch=True) for key, value in tags.items()]


def _launch_hook(
    config: FleetConfig,
) -> autoscaling.CfnAutoScalingGroup.LifecycleHookSpecificationProperty:
    return autoscaling.CfnAutoScalingGroup.LifecycleHookSpecificationProperty(
        lifecycle_hook_name=LAUNCH_HOOK_NAME,
        lifecycle_transition="autoscaling:EC2_INSTANCE_LAUNCHING",
        heartbeat_timeout=config.start_timeout_seconds + LAUNCH_HOOK_MARGIN_SECONDS,
        default_result="ABANDON",
    )


def vllm_image() -> str:
    """Return the official container image of the vLLM version that the whole repository pins."""
    version = (AGENT_DIRECTORY.parent / "vllm_version.txt").read_text(encoding="utf-8").strip()
    return f"vllm/vllm-openai:v{version}"
