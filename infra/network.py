"""Where a fleet lives: a VPC of its own, or an existing one named by ids."""

from __future__ import annotations

from typing import assert_never

from aws_cdk import RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.config import ExistingVpc, FleetConfig, LoadBalancerConfig, NewVpc
from infra.names import ENGINE_PORT, HEALTH_PORT
from infra.observability import log_retention


class FleetNetwork(Construct):
    """The VPC, the subnets of nodes and load balancer, and who may connect to whom."""

    def __init__(self, scope: Construct, construct_id: str, *, config: FleetConfig) -> None:
        super().__init__(scope, construct_id)
        match config.vpc:
            case NewVpc():
                self._new_vpc(config.vpc, config)
            case ExistingVpc():
                self._existing_vpc(config.vpc)
            case _:
                assert_never(config.vpc)
        self._security_groups(config)

    def _new_vpc(self, vpc: NewVpc, config: FleetConfig) -> None:
        zones = (
            {"availability_zones": list(vpc.availability_zones)} if vpc.availability_zones else {"max_azs": 2}
        )
        created = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(vpc.cidr),
            nat_gateways=1,
            # Emptying the default security group takes a function of the CDK's; nothing uses that group.
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="public", subnet_type=ec2.SubnetType.PUBLIC, map_public_ip_on_launch=False
                ),
                ec2.SubnetConfiguration(name="nodes", subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS),
            ],
            **zones,
        )
        # What comes from S3, such as layers of an image in ECR, need not be billed by the NAT gateway.
        created.add_gateway_endpoint("S3", service=ec2.GatewayVpcEndpointAwsService.S3)
        log_group = logs.LogGroup(
            self,
            "FlowLogs",
            retention=log_retention(config.log_retention_days),
            removal_policy=RemovalPolicy.DESTROY,
        )
        # Accepted traffic is the load balancer's and would cost more than it tells.
        created.add_flow_log(
            "Rejected",
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(log_group),
            traffic_type=ec2.FlowLogTrafficType.REJECT,
        )
        self.vpc: ec2.IVpc = created
        self.node_subnets = created.select_subnets(subnet_group_name="nodes").subnets
        public = created.select_subnets(subnet_group_name="public").subnets
        self.load_balancer_subnets = public if config.load_balancer.internet_facing else self.node_subnets

    def _existing_vpc(self, vpc: ExistingVpc) -> None:
        self.vpc = ec2.Vpc.from_vpc_attributes(
            self, "Vpc", vpc_id=vpc.vpc_id, availability_zones=list(vpc.availability_zones)
        )
        self.node_subnets = self._subnets("Nodes", vpc.node_subnet_ids, vpc.availability_zones)
        self.load_balancer_subnets = (
            self._subnets("LoadBalancer", vpc.load_balancer_subnet_ids, vpc.availability_zones)
            if vpc.load_balancer_subnet_ids
            else self.node_subnets
        )

    def _subnets(self, prefix: str, ids: tuple[str, ...], zones: tuple[str, ...]) -> list[ec2.ISubnet]:
        return [
            ec2.Subnet.from_subnet_attributes(
                self, f"{prefix}{index}", subnet_id=subnet, availability_zone=zone
            )
            for index, (subnet, zone) in enumerate(zip(ids, zones, strict=True))
        ]

    def _security_groups(self, config: FleetConfig) -> None:
        self.load_balancer_group = ec2.SecurityGroup(
            self,
            "LoadBalancerGroup",
            vpc=self.vpc,
            description=f"Load balancer of fleet {config.name}",
            allow_all_outbound=False,
        )
        self.node_group = ec2.SecurityGroup(
            self,
            "NodeGroup",
            vpc=self.vpc,
            description=f"vLLM nodes of fleet {config.name}",
            allow_all_outbound=False,
        )
        self._way_out(config.vpc)
        for cidr in callers(config.load_balancer, config.vpc):
            self.load_balancer_group.add_ingress_rule(
                ec2.Peer.ipv4(cidr), ec2.Port.tcp(listener_port(config.load_balancer)), "callers"
            )
        for port, what in (
            (ENGINE_PORT, "requests to the engine"),
            (HEALTH_PORT, "health checks of the agent"),
        ):
            self.node_group.add_ingress_rule(self.load_balancer_group, ec2.Port.tcp(port), what)
            self.load_balancer_group.add_egress_rule(self.node_group, ec2.Port.tcp(port), what)

    def _way_out(self, vpc: NewVpc | ExistingVpc) -> None:
        """Let nodes speak HTTPS to anybody: AWS, the registry and the hub have no fixed addresses.

        Nothing else: no package is installed at boot, and the VPC's resolver, Amazon's time and the instance
        metadata are beyond what security groups filter (EC2 user guide, "Security group rules").
        """
        anybody = ec2.Peer.any_ipv4()
        self.node_group.add_egress_rule(anybody, ec2.Port.tcp(443), "AWS, container registry, model hub")
        if isinstance(vpc, ExistingVpc):
            # Its DHCP options may name resolvers that are machines.
            for port in (ec2.Port.udp(53), ec2.Port.tcp(53)):
                self.node_group.add_egress_rule(anybody, port, "DNS")


def listener_port(config: LoadBalancerConfig) -> int:
    """Return 443 where there is a certificate, else 80."""
    return 443 if config.certificate_arn else 80


def callers(config: LoadBalancerConfig, vpc: NewVpc | ExistingVpc) -> tuple[str, ...]:
    """Return the ranges that may connect: those named, or else the fleet's own VPC."""
    if config.allowed_cidrs:
        return config.allowed_cidrs
    return (vpc.cidr,) if isinstance(vpc, NewVpc) else ()
