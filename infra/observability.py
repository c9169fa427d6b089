"""Alarms: what an operator has to hear of."""

from __future__ import annotations

from typing import Final

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.names import METRICS_NAMESPACE

# CloudWatch Logs accepts certain numbers of days only; the CDK names each.
_RETENTION: Final = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    90: logs.RetentionDays.THREE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    731: logs.RetentionDays.TWO_YEARS,
}


def log_retention(days: int) -> logs.RetentionDays:
    """Return the CDK's name for a number of days that `config.LOG_RETENTION_DAYS` allows."""
    return _RETENTION[days]


class DeadLetterAlarm(Construct):
    """Rises when a function has given up on a message, and stays up until the queue is emptied."""

    def __init__(
        self, scope: Construct, construct_id: str, *, function: str, queue: sqs.IQueue, topic_arn: str | None
    ) -> None:
        super().__init__(scope, construct_id)
        alarm = cloudwatch.Alarm(
            self,
            "Alarm",
            alarm_description=(
                f"{function} could not handle a message. Its body and the reason are in {queue.queue_name}; "
                "nodes are still replaced by their Auto Scaling group."
            ),
            metric=queue.metric_approximate_number_of_messages_visible(
                period=Duration.minutes(1), statistic="Maximum"
            ),
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        _tell(alarm, topic_arn)


class ErrorAlarm(Construct):
    """Rises a minute after a function broke, long before the first message reaches its dead-letter queue."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        function: lambda_.IFunction,
        topic_arn: str | None,
        consequence: str = (
            "Its messages come again until their deadline; "
            "nodes are still replaced by their Auto Scaling group."
        ),
    ) -> None:
        super().__init__(scope, construct_id)
        alarm = cloudwatch.Alarm(
            self,
            "Alarm",
            alarm_description=f"{name} raised an error or ran out of time. {consequence}",
            metric=function.metric_errors(period=Duration.minutes(1), statistic="Sum"),
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        _tell(alarm, topic_arn)


class SilenceAlarm(Construct):
    """Rises when a function that a schedule runs has not been run for five minutes."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        name: str,
        function: lambda_.IFunction,
        topic_arn: str | None,
    ) -> None:
        super().__init__(scope, construct_id)
        alarm = cloudwatch.Alarm(
            self,
            "Alarm",
            alarm_description=f"Nothing has run {name} for five minutes. Is its schedule enabled?",
            metric=function.metric_invocations(period=Duration.minutes(5), statistic="Sum"),
            threshold=1,
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
        )
        _tell(alarm, topic_arn)


# No SQL, though it reads so, and nothing in it comes from outside.
_UNRECORDED: Final = f'SELECT SUM("incident.unrecorded") FROM SCHEMA("{METRICS_NAMESPACE}", fleet)'  # noqa: S608


class UnrecordedAlarm(Construct):
    """Rises when a function did its work and could not write it down; only its log knows of it then.

    The metric has one value for each fleet, and a fleet that joined is in no configuration: so the alarm is
    on a query over all of them (CloudWatch's guide, "Create an alarm on a Metrics Insights query").
    """

    def __init__(self, scope: Construct, construct_id: str, *, topic_arn: str | None) -> None:
        super().__init__(scope, construct_id)
        alarm = cloudwatch.Alarm(
            self,
            "Alarm",
            alarm_description=(
                "An incident lacks an entry that could not be written, so nobody ends its node should it "
                'outlive its notice. The functions\' logs have the entry as "incident: unrecorded".'
            ),
            metric=cloudwatch.MathExpression(
                expression=_UNRECORDED,
                using_metrics={},
                period=Duration.minutes(1),
            ),
            threshold=0,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        _tell(alarm, topic_arn)


def _tell(alarm: cloudwatch.Alarm, topic_arn: str | None) -> None:
    if topic_arn is not None:
        topic = sns.Topic.from_topic_arn(alarm, "Topic", topic_arn)
        alarm.add_alarm_action(actions.SnsAction(topic))
