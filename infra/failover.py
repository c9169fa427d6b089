"""The control plane: rules, queues, functions and the incidents table."""

from __future__ import annotations

from aws_cdk import ArnFormat, RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.bundle import function_code
from infra.config import ControlPlaneConfig
from infra.function import FailoverFunction, FunctionSpec
from infra.names import (
    DRAIN_DOCUMENT_NAME,
    FLEET_INDEX_NAME,
    FLEET_TAG_KEY,
    METRICS_NAMESPACE,
    NODE_EVENT_SOURCE,
    NODE_EVENTS,
    OPEN_ATTRIBUTE,
    OPEN_INDEX_NAME,
)
from infra.node_commands import NodeCommands
from infra.observability import UnrecordedAlarm
from infra.permissions import look_up, on, on_fleets, on_nodes_through_systems_manager
from infra.sweeper import GRACE_SECONDS, Sweeper

INTERRUPTION_NOTICE = events.EventPattern(
    source=["aws.ec2"], detail_type=["EC2 Spot Instance Interruption Warning"]
)
LAUNCH_RESULT = events.EventPattern(
    source=["aws.autoscaling"],
    detail_type=["EC2 Instance Launch Successful", "EC2 Instance Launch Unsuccessful"],
)
DRAIN_RESULT = events.EventPattern(
    source=["aws.ssm"],
    detail_type=["EC2 Command Invocation Status-change Notification"],
    detail={
        "document-name": [DRAIN_DOCUMENT_NAME],
        "status": ["Success", "Failed", "TimedOut", "Cancelled"],
    },
)
# The default bus takes events of this account alone, and a node's role may send these and no others.
NODE_REPORT = events.EventPattern(source=[NODE_EVENT_SOURCE], detail_type=list(NODE_EVENTS))


# A last node takes requests until so long before its deadline. From then on it drains as any other does: the
# node agent ends an idle engine after its SETTLE_SECONDS of 15, and any engine 8 s before the deadline.
HOLD_RESERVE_SECONDS = 25


def hold_reserve_seconds(notice_seconds: int) -> int:
    """Return the reserve; a shortened notice is not used up by it."""
    return min(HOLD_RESERVE_SECONDS, max(1, notice_seconds // 3))


class Failover(Construct):
    """Everything between an event and a call: the same for every fleet of the account and region."""

    def __init__(
        self, scope: Construct, construct_id: str, *, config: ControlPlaneConfig, commands: NodeCommands
    ) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        self._code = function_code()
        self.incidents = self._table()
        deregister_target = self._function("DeregisterTarget", self._deregister_target())
        drain_node = self._function("DrainNode", self._drain_node(commands))
        request_replacement = self._function("RequestReplacement", self._request_replacement())
        track_incident = self._function("TrackIncident", self._track_incident())
        Sweeper(self, "SweepIncidents", spec=self._sweep_incidents(), code=self._code, config=config)
        UnrecordedAlarm(self, "Unrecorded", topic_arn=config.alarm_topic_arn)
        self.functions = (deregister_target, drain_node, request_replacement, track_incident)
        self._rule(
            "InterruptionNotice", INTERRUPTION_NOTICE, deregister_target, drain_node, request_replacement
        )
        self._rule("LaunchResult", LAUNCH_RESULT, track_incident)
        self._rule("DrainResult", DRAIN_RESULT, track_incident)
        self._rule("NodeReport", NODE_REPORT, track_incident)

    def _table(self) -> dynamodb.Table:
        table = dynamodb.Table(
            self,
            "Incidents",
            partition_key=dynamodb.Attribute(name="incident", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="entry", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="expires_at",
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            # Records that expire by themselves; `cdk destroy` leaves nothing behind that costs money.
            removal_policy=RemovalPolicy.DESTROY,
        )
        table.add_global_secondary_index(
            index_name=FLEET_INDEX_NAME,
            partition_key=dynamodb.Attribute(name="fleet", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="entry", type=dynamodb.AttributeType.STRING),
        )
        # By the departing node's id, so that a storm's entries spread; what is read is the whole index.
        table.add_global_secondary_index(
            index_name=OPEN_INDEX_NAME,
            partition_key=dynamodb.Attribute(name=OPEN_ATTRIBUTE, type=dynamodb.AttributeType.STRING),
            projection_type=dynamodb.ProjectionType.INCLUDE,
            non_key_attributes=["fleet", "noticed_at", "deadline"],
        )
        return table

    def _function(self, construct_id: str, spec: FunctionSpec) -> FailoverFunction:
        return FailoverFunction(self, construct_id, spec=spec, code=self._code, config=self._config)

    def _rule(self, construct_id: str, pattern: events.EventPattern, *functions: FailoverFunction) -> None:
        rule = events.Rule(self, construct_id, event_pattern=pattern)
        for function in functions:
            rule.add_target(targets.SqsQueue(function.queue, dead_letter_queue=function.dead_letters))

    def _environment(self, **more: str) -> dict[str, str]:
        return {
            "FLEET_TAG_KEY": FLEET_TAG_KEY,
            "INCIDENTS_TABLE": self.incidents.table_name,
            "INCIDENT_TTL_DAYS": str(self._config.incident_ttl_days),
            "NOTICE_SECONDS": str(self._config.notice_seconds),
            "POWERTOOLS_METRICS_NAMESPACE": METRICS_NAMESPACE,
            "POWERTOOLS_LOG_LEVEL": "INFO",
            **more,
        }

    def _record(self) -> iam.PolicyStatement:
        return on([self.incidents.table_arn], "dynamodb:BatchWriteItem")

    def _arn(
        self, service: str, resource: str, name: str, arn_format: ArnFormat = ArnFormat.SLASH_RESOURCE_NAME
    ) -> str:
        return Stack.of(self).format_arn(
            service=service, resource=resource, resource_name=name, arn_format=arn_format
        )

    def _deregister_target(self) -> FunctionSpec:
        target_groups = self._arn("elasticloadbalancing", "targetgroup", "*")
        return FunctionSpec(
            name="deregister_target",
            description="Takes a node that got a notice out of its target groups.",
            permissions=[
                look_up(
                    "ec2:DescribeInstances",
                    "autoscaling:DescribeAutoScalingGroups",
                    "elasticloadbalancing:DescribeTargetHealth",
                    "tag:GetResources",
                ),
                on_fleets(
                    target_groups,
                    "elasticloadbalancing:DeregisterTargets",
                    # A last node that its group deregistered when it was detached is taken back.
                    "elasticloadbalancing:RegisterTargets",
                ),
                self._record(),
            ],
            environment=self._environment(
                HOLD_RESERVE_SECONDS=str(hold_reserve_seconds(self._config.notice_seconds))
            ),
        )

    def _drain_node(self, commands: NodeCommands) -> FunctionSpec:
        instances = self._arn("ec2", "instance", "*")
        return FunctionSpec(
            name="drain_node",
            description="Tells a node that got a notice to drain, through Run Command.",
            permissions=[
                look_up("ec2:DescribeInstances"),
                on([commands.drain_document_arn], "ssm:SendCommand"),
                on_nodes_through_systems_manager(instances, "ssm:SendCommand"),
                self._record(),
            ],
            environment=self._environment(DRAIN_DOCUMENT=commands.drain_document_name),
        )

    def _request_replacement(self) -> FunctionSpec:
        groups = self._arn(
            "autoscaling", "autoScalingGroup", "*:autoScalingGroupName/*", ArnFormat.COLON_RESOURCE_NAME
        )
        return FunctionSpec(
            name="request_replacement",
            description="Detaches a node that got a notice, so that its group launches another at once.",
            permissions=[
                look_up(
                    "ec2:DescribeInstances",
                    "autoscaling:DescribeAutoScalingGroups",
                    "autoscaling:DescribeAutoScalingInstances",
                ),
                on_fleets(groups, "autoscaling:DetachInstances"),
                self._record(),
            ],
            environment=self._environment(),
        )

    def _track_incident(self) -> FunctionSpec:
        index = f"{self.incidents.table_arn}/index/{FLEET_INDEX_NAME}"
        return FunctionSpec(
            name="track_incident",
            description="Writes launches, drain results and boots into the incidents they belong to.",
            permissions=[
                look_up("autoscaling:DescribeAutoScalingGroups", "ssm:ListCommandInvocations"),
                on([self.incidents.table_arn, index], "dynamodb:Query"),
                # TransactWriteItems asks for the permission of each of its puts.
                on([self.incidents.table_arn], "dynamodb:PutItem"),
                self._record(),
            ],
            environment=self._environment(INCIDENTS_FLEET_INDEX=FLEET_INDEX_NAME),
        )

    def _sweep_incidents(self) -> FunctionSpec:
        table = self.incidents.table_arn
        groups = self._arn(
            "autoscaling", "autoScalingGroup", "*:autoScalingGroupName/*", ArnFormat.COLON_RESOURCE_NAME
        )
        return FunctionSpec(
            name="sweep_incidents",
            description="Closes incidents, ends nodes that outlive their notice, asks again for launches.",
            permissions=[
                look_up(
                    "ec2:DescribeInstances",
                    "autoscaling:DescribeAutoScalingGroups",
                    "autoscaling:DescribeAutoScalingInstances",
                ),
                on_fleets(groups, "autoscaling:DetachInstances"),
                on_fleets(self._arn("ec2", "instance", "*"), "ec2:TerminateInstances"),
                on([f"{table}/index/{OPEN_INDEX_NAME}"], "dynamodb:Scan"),
                on([f"{table}/index/{FLEET_INDEX_NAME}"], "dynamodb:Query"),
                # TransactWriteItems asks for the permission of each of its puts and updates.
                on([table], "dynamodb:PutItem", "dynamodb:UpdateItem"),
            ],
            environment={
                "FLEET_TAG_KEY": FLEET_TAG_KEY,
                "INCIDENTS_TABLE": self.incidents.table_name,
                "INCIDENTS_FLEET_INDEX": FLEET_INDEX_NAME,
                "INCIDENTS_OPEN_INDEX": OPEN_INDEX_NAME,
                "INCIDENT_TTL_DAYS": str(self._config.incident_ttl_days),
                "GRACE_SECONDS": str(GRACE_SECONDS),
                "BOOT_LIMIT_SECONDS": str(self._config.boot_limit_seconds),
                "POWERTOOLS_METRICS_NAMESPACE": METRICS_NAMESPACE,
                "POWERTOOLS_LOG_LEVEL": "INFO",
            },
        )
