"""`python -m bench.baselines.app`: the published pattern as a CDK app of its own."""

from __future__ import annotations

from pathlib import Path

from aws_cdk import App, Duration, RemovalPolicy, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct

from bench.baselines import FUNCTION

STACK = "SpotInterruptionBaseline"
HANDLER = Path(__file__).with_name("published_handler")
# As the published template has it.
TIMEOUT = Duration.seconds(30)


class PublishedPattern(Stack):
    """One function, invoked directly by one rule, with Lambda's own retries behind it."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        log_group = logs.LogGroup(
            self, "Logs", log_group_name=f"/aws/lambda/{FUNCTION}", removal_policy=RemovalPolicy.DESTROY
        )
        function = lambda_.Function(
            self,
            "Handler",
            function_name=FUNCTION,
            runtime=lambda_.Runtime.PYTHON_3_14,
            handler="index.handler",
            code=lambda_.Code.from_asset(str(HANDLER), exclude=["__pycache__"]),
            role=self._role(log_group),
            log_group=log_group,
            timeout=TIMEOUT,
        )
        rule = events.Rule(
            self,
            "Notice",
            event_pattern=events.EventPattern(
                source=["aws.ec2"], detail_type=["EC2 Spot Instance Interruption Warning"]
            ),
        )
        rule.add_target(targets.LambdaFunction(function))

    def _role(self, log_group: logs.ILogGroup) -> iam.IRole:
        """Let it do what it does, anywhere: the published role is bound to no tag either."""
        statements = [
            iam.PolicyStatement(
                actions=["logs:CreateLogStream", "logs:PutLogEvents"], resources=[log_group.log_group_arn]
            ),
            iam.PolicyStatement(
                actions=["ec2:DescribeInstances", "autoscaling:DetachInstances", "ssm:SendCommand"],
                resources=["*"],
            ),
        ]
        role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            inline_policies={"handler": iam.PolicyDocument(statements=statements)},
        )
        return role.without_policy_updates()


def build(outdir: str | None = None) -> App:
    """Return the app with its one stack."""
    app = App(outdir=outdir, analytics_reporting=False)
    PublishedPattern(app, STACK)
    return app


if __name__ == "__main__":
    build().synth()
