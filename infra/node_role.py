"""What a node may do in AWS: what its own fleet's hook, log, caches, weights and key ask for, and no more."""

from __future__ import annotations

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

from gpu_node_bootstrap.node_agent.settings import WeightsLoad
from infra.config import FleetConfig
from infra.nag import acknowledge, wildcards
from infra.names import ASSET_PREFIX, COMPILE_CACHE_PREFIX, NODE_EVENT_SOURCE, NODE_EVENTS, group_name
from infra.node_storage import NodeStorage
from infra.permissions import on, reading_below, s3_arn

_MANY_OBJECTS = "The objects below one prefix, this fleet's own: what they are called is not known here."


class NodeRole(Construct):
    """The role of a fleet's nodes, and the weights reader that an engine gets in its stead."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: FleetConfig,
        agent: s3_assets.Asset,
        storage: NodeStorage,
    ) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self._storage = storage
        self.role = self._node_role(agent)
        self.weights_reader = self._weights_reader()

    def _node_role(self, agent: s3_assets.Asset) -> iam.Role:
        own_group, fetch_agent = self._own_group(), self._fetch_agent(agent)
        below_prefixes = [*self._caches(), *self._read_weights()]
        statements = [own_group, fetch_agent, self._write_log(), self._report(), *below_prefixes]
        no_parameters = iam.PolicyStatement(
            effect=iam.Effect.DENY,
            # The managed policy below lets a node read every parameter of the account; ours reads none.
            actions=[
                "ssm:GetParameter",
                "ssm:GetParameterHistory",
                "ssm:GetParameters",
                "ssm:GetParametersByPath",
            ],
            resources=["*"],
        )
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("ec2.amazonaws.com"),
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name("AmazonSSMManagedInstanceCore")],
            inline_policies={
                "node": iam.PolicyDocument(statements=[*statements, *self._read_api_key(), no_parameters]),
            },
        )
        acknowledge(
            role,
            "What the Systems Manager agent needs is AWS's to know, and AWS keeps this policy up to date.",
            "IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/AmazonSSMManagedInstanceCore]",
        )
        acknowledge(
            role,
            "A group's ARN holds an id that is made with it; its name, behind that, is this fleet's own.",
            *wildcards(self, [own_group]),
        )
        acknowledge(
            role,
            "An agent's key is the hash of its source, and another version's is not known here; below the "
            "prefix is nothing but agents and the image's scripts.",
            *wildcards(self, [fetch_agent]),
        )
        acknowledge(role, _MANY_OBJECTS, *wildcards(self, below_prefixes))
        return role

    def _own_group(self) -> iam.PolicyStatement:
        group = Stack.of(self).format_arn(
            service="autoscaling",
            resource="autoScalingGroup",
            resource_name=f"*:autoScalingGroupName/{group_name(self._config.name)}",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )
        return on([group], "autoscaling:CompleteLifecycleAction", "autoscaling:SetInstanceHealth")

    def _fetch_agent(self, agent: s3_assets.Asset) -> iam.PolicyStatement:
        # Not this version's object alone: during an update or a rollback, nodes of both versions launch.
        return on([s3_arn(self, agent.s3_bucket_name, f"{ASSET_PREFIX}*.zip")], "s3:GetObject")

    def _write_log(self) -> iam.PolicyStatement:
        # CloudFormation's ARN of a log group covers its streams.
        return on([self._storage.log_group.log_group_arn], "logs:CreateLogStream", "logs:PutLogEvents")

    def _report(self) -> iam.PolicyStatement:
        bus = Stack.of(self).format_arn(service="events", resource="event-bus", resource_name="default")
        return iam.PolicyStatement(
            actions=["events:PutEvents"],
            resources=[bus],
            conditions={
                # One call may carry events of several sources, and ForAllValues also holds where there is
                # none (IAM user guide, "Multivalued context keys").
                "ForAllValues:StringEquals": {
                    "events:source": NODE_EVENT_SOURCE,
                    "events:detail-type": list(NODE_EVENTS),
                },
                "Null": {"events:source": "false", "events:detail-type": "false"},
            },
        )

    def _caches(self) -> list[iam.PolicyStatement]:
        bucket = self._storage.artifacts
        if bucket is None:
            return []
        return [
            on([bucket.arn_for_objects(f"{COMPILE_CACHE_PREFIX}/*")], "s3:GetObject", "s3:PutObject"),
            # The bucket holds nothing else, and only who may list it all is told that a key is missing:
            # others are refused (S3 API reference, "HeadObject").
            on([bucket.bucket_arn], "s3:ListBucket"),
        ]

    def _read_weights(self) -> list[iam.PolicyStatement]:
        weights = self._config.weights
        return reading_below(self, weights.uri) if weights else []

    def _read_api_key(self) -> list[iam.PolicyStatement]:
        secret = self._config.api_key_secret_arn
        return [on([secret], "secretsmanager:GetSecretValue")] if secret else []

    def _weights_reader(self) -> iam.Role | None:
        """Return the role that an engine streams with; broken into, it reads weights and no more."""
        weights = self._config.weights
        if weights is None or weights.load is not WeightsLoad.STREAM:
            return None
        statements = self._read_weights()
        reader = iam.Role(
            self,
            "WeightsReader",
            description=f"Reads the weights of fleet {self._config.name}; nodes lend it to their engines.",
            assumed_by=iam.ArnPrincipal(self.role.role_arn),
            inline_policies={"weights": iam.PolicyDocument(statements=statements)},
        )
        acknowledge(reader, _MANY_OBJECTS, *wildcards(self, statements))
        # Apart from the node's own role, which the reader's trust names: neither could be made first.
        iam.Policy(self, "Lend", roles=[self.role], statements=[on([reader.role_arn], "sts:AssumeRole")])
        return reader
