"""The control plane: rules, queues, functions and the incidents table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import ArnFormat, Duration, RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.bundle import function_code
from infra.config import ControlPlaneConfig
from infra.nag import acknowledge, wildcards
from infra.names import DRAIN_DOCUMENT_NAME, FLEET_INDEX_NAME, FLEET_TAG_KEY, METRICS_NAMESPACE
from infra.node_commands import NodeCommands
from infra.observability import DeadLetterAlarm, log_retention
from infra.permissions import look_up, on, on_fleets, on_nodes_through_systems_manager

# A cold start and a batch's calls take 2 to 3 s; a function that hangs must leave time to try again.
FUNCTION_TIMEOUT = Duration.seconds(20)
# Lambda wants at least the function's timeout; no longer, for a crashed function's messages wait for it.
VISIBILITY_TIMEOUT = Duration.seconds(24)
# The net below the function's own rule, which gives a message up when its deadline has passed.
MAX_RECEIVES = 20

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


@dataclass(frozen=True, kw_only=True)
class FunctionSpec:
    """What tells one function from another."""

    name: str
    description: str
    permissions: Sequence[iam.PolicyStatement]
    environment: dict[str, str]


class FailoverFunction(Construct):
    """A function behind its queue: own role, log group, dead-letter queue and alarm."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        spec: FunctionSpec,
        code: lambda_.Code,
        config: ControlPlaneConfig,
    ) -> None:
        super().__init__(scope, construct_id)
        self.dead_letters = _queue(self, "DeadLetters", f"spot-failover-{spec.name}-dead-letters", days=14)
        self.queue = _queue(
            self,
            "Queue",
            f"spot-failover-{spec.name}",
            days=1,
            dead_letters=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=MAX_RECEIVES),
        )
        log_group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/spot-failover/{spec.name}",
            retention=log_retention(config.log_retention_days),
            removal_policy=RemovalPolicy.DESTROY,
        )
        role = self._role(spec, log_group)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=f"spot-failover-{spec.name}",
            description=spec.description,
            runtime=lambda_.Runtime.PYTHON_3_14,
            architecture=lambda_.Architecture.ARM_64,
            handler=f"{spec.name}.handler.handler",
            code=code,
            role=role,
            log_group=log_group,
            timeout=FUNCTION_TIMEOUT,
            # CPU comes with memory, and a cold start is CPU.
            memory_size=1024,
            environment={
                "QUEUE_URL": self.queue.queue_url,
                "DEAD_LETTER_QUEUE_URL": self.dead_letters.queue_url,
                "POWERTOOLS_SERVICE_NAME": spec.name,
                **spec.environment,
            },
        )
        lambda_.EventSourceMapping(
            self,
            "Source",
            target=self.function,
            event_source_arn=self.queue.queue_arn,
            batch_size=10,
            report_batch_item_failures=True,
        )
        DeadLetterAlarm(
            self, "Alarm", function=spec.name, queue=self.dead_letters, topic_arn=config.alarm_topic_arn
        )

    def _role(self, spec: FunctionSpec, log_group: logs.ILogGroup) -> iam.IRole:
        statements = [
            on([log_group.log_group_arn], "logs:CreateLogStream", "logs:PutLogEvents"),
            on(
                [self.queue.queue_arn],
                "sqs:ReceiveMessage",
                "sqs:DeleteMessage",
                "sqs:GetQueueAttributes",
                "sqs:ChangeMessageVisibility",
            ),
            on([self.dead_letters.queue_arn], "sqs:SendMessage"),
            *spec.permissions,
        ]
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={spec.name: iam.PolicyDocument(statements=statements)},
        )
        acknowledge(
            role,
            "Describe calls know no resource; the other actions are bound to the fleet tag.",
            *wildcards(self, list(spec.permissions)),
        )
        # Statements stand above, by hand; nothing may add to them.
        return role.without_policy_updates()


def _queue(
    scope: Construct,
    construct_id: str,
    name: str,
    *,
    days: int,
    dead_letters: sqs.DeadLetterQueue | None = None,
) -> sqs.Queue:
    return sqs.Queue(
        scope,
        construct_id,
        queue_name=name,
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
        retention_period=Duration.days(days),
        visibility_timeout=VISIBILITY_TIMEOUT,
        dead_letter_queue=dead_letters,
    )


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
        self.functions = (deregister_target, drain_node, request_replacement, track_incident)
        self._rule(
            "InterruptionNotice", INTERRUPTION_NOTICE, deregister_target, drain_node, request_replacement
        )
        self._rule("LaunchResult", LAUNCH_RESULT, track_incident)
        self._rule("DrainResult", DRAIN_RESULT, track_incident)

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
                look_up("ec2:DescribeInstances", "autoscaling:DescribeAutoScalingGroups"),
                on_fleets(target_groups, "elasticloadbalancing:DeregisterTargets"),
                self._record(),
            ],
            environment=self._environment(),
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
            description="Writes launches and drain results into the incidents they belong to.",
            permissions=[
                look_up("autoscaling:DescribeAutoScalingGroups", "ssm:GetCommandInvocation"),
                on([self.incidents.table_arn, index], "dynamodb:Query"),
                # TransactWriteItems asks for the permission of each of its puts.
                on([self.incidents.table_arn], "dynamodb:PutItem"),
                self._record(),
            ],
            environment=self._environment(INCIDENTS_FLEET_INDEX=FLEET_INDEX_NAME),
        )
