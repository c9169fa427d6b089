"""One function of the control plane, behind its queue: own role, log group, dead-letter queue and alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.config import ControlPlaneConfig
from infra.nag import acknowledge, wildcards
from infra.observability import DeadLetterAlarm, ErrorAlarm, log_retention
from infra.permissions import on

# A cold start and a batch's calls take 2 to 3 s; a function that hangs must leave time to try again.
FUNCTION_TIMEOUT = Duration.seconds(20)
# Lambda wants at least the function's timeout; no longer, for a crashed function's messages wait for it.
VISIBILITY_TIMEOUT = Duration.seconds(24)
# The net below the function's own rule, which gives a message up when its deadline has passed. A node that is
# held in its target groups is looked at every other second of its notice.
MAX_RECEIVES = 150
# One function takes a storm as a whole, the second is for what comes meanwhile. Lambda allows no fewer, and
# more would only share the same limits on AWS's calls among smaller batches.
MAX_CONCURRENCY = 2


@dataclass(frozen=True, kw_only=True)
class FunctionSpec:
    """What tells one function from another."""

    name: str
    description: str
    permissions: Sequence[iam.PolicyStatement]
    environment: dict[str, str]


class FailoverFunction(Construct):
    """A function behind its queue: own role, log group, dead-letter queue and alarms."""

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
        self.function = self._function(spec, code, config)
        lambda_.EventSourceMapping(
            self,
            "Source",
            target=self.function,
            event_source_arn=self.queue.queue_arn,
            batch_size=10,
            max_concurrency=MAX_CONCURRENCY,
            report_batch_item_failures=True,
        )
        DeadLetterAlarm(
            self, "Alarm", function=spec.name, queue=self.dead_letters, topic_arn=config.alarm_topic_arn
        )
        ErrorAlarm(self, "Errors", name=spec.name, function=self.function, topic_arn=config.alarm_topic_arn)

    def _function(
        self, spec: FunctionSpec, code: lambda_.Code, config: ControlPlaneConfig
    ) -> lambda_.Function:
        log_group = logs.LogGroup(
            self,
            "Logs",
            log_group_name=f"/spot-failover/{spec.name}",
            retention=log_retention(config.log_retention_days),
            removal_policy=RemovalPolicy.DESTROY,
        )
        return lambda_.Function(
            self,
            "Function",
            function_name=f"spot-failover-{spec.name}",
            description=spec.description,
            runtime=lambda_.Runtime.PYTHON_3_14,
            architecture=lambda_.Architecture.ARM_64,
            handler=f"{spec.name}.handler.handler",
            code=code,
            role=self._role(spec, log_group),
            log_group=log_group,
            timeout=FUNCTION_TIMEOUT,
            # CPU comes with memory, and a cold start is CPU: 1,769 MB are one processor (Lambda's guide,
            # "Configure Lambda function memory").
            memory_size=1769,
            environment={
                "QUEUE_URL": self.queue.queue_url,
                "DEAD_LETTER_QUEUE_URL": self.dead_letters.queue_url,
                "POWERTOOLS_SERVICE_NAME": spec.name,
                **spec.environment,
            },
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
