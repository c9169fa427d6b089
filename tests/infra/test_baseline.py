"""The baseline is deployed as it is published: a rule that invokes one function, and nothing in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.baselines import FUNCTION
from bench.baselines.app import STACK, build
from tests.infra.templates import Template


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Template:
    outdir: Path = tmp_path_factory.mktemp("baseline")
    build(str(outdir)).synth()
    return Template.read(outdir / f"{STACK}.template.json")


def test_the_notices_rule_invokes_the_function_itself(baseline: Template) -> None:
    rule = baseline.only("AWS::Events::Rule")
    assert rule["EventPattern"] == {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Spot Instance Interruption Warning"],
    }
    (target,) = rule["Targets"]
    (function,) = baseline.resources("AWS::Lambda::Function")
    assert baseline.text(target["Arn"]) == f"<{function}.Arn>"
    assert not {"DeadLetterConfig", "RetryPolicy"} & target.keys()


def test_nothing_but_the_rule_may_invoke_it(baseline: Template) -> None:
    permission = baseline.only("AWS::Lambda::Permission")
    (rule,) = baseline.resources("AWS::Events::Rule")
    assert permission["Principal"] == "events.amazonaws.com"
    assert baseline.text(permission["SourceArn"]) == f"<{rule}.Arn>"


def test_function_has_the_published_timeout_and_lambdas_own_retries(baseline: Template) -> None:
    function = baseline.only("AWS::Lambda::Function")
    assert function["FunctionName"] == FUNCTION
    assert function["Timeout"] == 30
    assert "DeadLetterConfig" not in function
    assert not baseline.resources("AWS::Lambda::EventInvokeConfig")
    assert not baseline.resources("AWS::SQS::Queue")


def test_role_may_make_the_calls_of_the_sequence_and_no_others(baseline: Template) -> None:
    (policy,) = baseline.only("AWS::IAM::Role")["Policies"]
    actions = {
        action
        for statement in policy["PolicyDocument"]["Statement"]
        for action in (
            statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        )
    }
    assert actions == {
        "autoscaling:DetachInstances",
        "ec2:DescribeInstances",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "ssm:SendCommand",
    }
