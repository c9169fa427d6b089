"""The sweeper: a function that a schedule runs once a minute; own role, log group and alarms, and no queue.

A sweep that fails is not tried again and leaves no letter: the next one, a minute later, does its work.
"""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from constructs import Construct

from infra.config import ControlPlaneConfig
from infra.function import FunctionSpec
from infra.nag import acknowledge, wildcards
from infra.observability import ErrorAlarm, SilenceAlarm, log_retention
from infra.permissions import on

SCHEDULE_NAME = "spot-failover-sweep"
PERIOD = Duration.minutes(1)
# Two thousand open incidents take some 300 calls. A sweep that lasts longer meets the next one: no harm.
TIMEOUT = Duration.seconds(55)
# How long an incident waits after its node's deadline for what is told late: an event of Run Command's or of
# Auto Scaling's comes within seconds, and the tracker tries for a minute.
GRACE_SECONDS = 120


class Sweeper(Construct):
    """The function and its schedule."""

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
        self.function = self._function(spec, code, config)
        self._schedule()
        ErrorAlarm(
            self,
            "Errors",
            name=spec.name,
            function=self.function,
            topic_arn=config.alarm_topic_arn,
            consequence="Incidents stay open, and nodes outlive their notice, until it works again.",
        )
        SilenceAlarm(
            self, "Silence", name=spec.name, function=self.function, topic_arn=config.alarm_topic_arn
        )

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
            timeout=TIMEOUT,
            # Nobody waits for a sweep, and it is paid for each minute of the month.
            memory_size=512,
            retry_attempts=0,
            max_event_age=PERIOD,
            environment={"POWERTOOLS_SERVICE_NAME": spec.name, **spec.environment},
        )

    def _role(self, spec: FunctionSpec, log_group: logs.ILogGroup) -> iam.IRole:
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={
                spec.name: iam.PolicyDocument(
                    statements=[
                        on([log_group.log_group_arn], "logs:CreateLogStream", "logs:PutLogEvents"),
                        *spec.permissions,
                    ]
                )
            },
        )
        acknowledge(
            role,
            "Describe calls know no resource; the other actions are bound to the fleet tag.",
            *wildcards(self, list(spec.permissions)),
        )
        return role.without_policy_updates()

    def _schedule(self) -> None:
        """Run the function by EventBridge Scheduler: no policy on the function lets a service in."""
        role = iam.Role(
            self,
            "ScheduleRole",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com",
                # For this account's schedules alone, or another's could have it assumed.
                conditions={"StringEquals": {"aws:SourceAccount": Stack.of(self).account}},
            ),
            inline_policies={
                "sweep": iam.PolicyDocument(
                    statements=[on([self.function.function_arn], "lambda:InvokeFunction")]
                )
            },
        )
        scheduler.CfnSchedule(
            self,
            "Schedule",
            name=SCHEDULE_NAME,
            description="Sweeps incidents once a minute.",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            schedule_expression="rate(1 minute)",
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self.function.function_arn,
                role_arn=role.role_arn,
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_event_age_in_seconds=60, maximum_retry_attempts=0
                ),
            ),
        )
