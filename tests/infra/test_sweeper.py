"""The sweeper: run by a schedule once a minute, alone in its role, and missed when it does not run."""

from __future__ import annotations

from typing import Any

import pytest
from spot_failover.incident_table import OPEN

from infra.names import OPEN_ATTRIBUTE
from tests.infra.templates import Template
from tests.infra.test_functions import function_named
from tests.infra.test_permissions import READS_ANYTHING, is_bound_to_the_fleet_tag, statements_of

NAME = "sweep_incidents"


@pytest.fixture(scope="module")
def schedule(control_plane: Template) -> Any:
    return control_plane.only("AWS::Scheduler::Schedule")


def test_a_schedule_runs_it_once_a_minute_and_tries_nothing_twice(
    control_plane: Template, schedule: Any
) -> None:
    logical_id, function = function_named(control_plane, NAME)
    assert schedule["ScheduleExpression"] == "rate(1 minute)"
    assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}
    assert schedule.get("State", "ENABLED") == "ENABLED"
    assert schedule["Target"]["Arn"] == {"Fn::GetAtt": [logical_id, "Arn"]}
    assert schedule["Target"]["RetryPolicy"]["MaximumRetryAttempts"] == 0
    assert control_plane.only("AWS::Lambda::EventInvokeConfig") == {
        "FunctionName": {"Ref": logical_id},
        "MaximumEventAgeInSeconds": 60,
        "MaximumRetryAttempts": 0,
        "Qualifier": "$LATEST",
    }
    assert function["Timeout"] < 60


def test_only_the_schedules_own_role_may_run_it_and_only_for_this_account(
    control_plane: Template, schedule: Any
) -> None:
    assert control_plane.resources("AWS::Lambda::Permission") == {}
    logical_id, _ = function_named(control_plane, NAME)
    role = schedule["Target"]["RoleArn"]["Fn::GetAtt"][0]
    (statement,) = control_plane.statements(role)
    assert statement.actions == ("lambda:InvokeFunction",)
    assert statement.resources == (f"<{logical_id}.Arn>",)
    (trust,) = control_plane.body["Resources"][role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_it_may_do_what_it_does_and_nothing_else(control_plane: Template) -> None:
    statements = statements_of(control_plane, NAME)
    granted = {action: one for one in statements for action in one.actions}
    assert set(granted) == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
        "ec2:DescribeInstances",
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DetachInstances",
        "ec2:TerminateInstances",
        "dynamodb:Scan",
        "dynamodb:Query",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
    }
    for action in ("autoscaling:DetachInstances", "ec2:TerminateInstances"):
        assert is_bound_to_the_fleet_tag(granted[action])
    reading = [one for one in statements if one.resources == ("*",)]
    assert all(READS_ANYTHING.fullmatch(action) for one in reading for action in one.actions)
    assert granted["dynamodb:Scan"].resources[0].endswith("/index/open")


def test_its_settings_are_complete(control_plane: Template) -> None:
    _, function = function_named(control_plane, NAME)
    environment = function["Environment"]["Variables"]
    assert set(environment) == {
        "BOOT_LIMIT_SECONDS",
        "FLEET_TAG_KEY",
        "GRACE_SECONDS",
        "INCIDENTS_FLEET_INDEX",
        "INCIDENTS_OPEN_INDEX",
        "INCIDENTS_TABLE",
        "INCIDENT_TTL_DAYS",
        "POWERTOOLS_LOG_LEVEL",
        "POWERTOOLS_METRICS_NAMESPACE",
        "POWERTOOLS_SERVICE_NAME",
    }
    assert OPEN_ATTRIBUTE == OPEN, "the index is over what the functions write"


@pytest.mark.parametrize(
    ("metric", "comparison", "missing"),
    [
        ("Errors", "GreaterThanThreshold", "notBreaching"),
        ("Invocations", "LessThanThreshold", "breaching"),
    ],
)
def test_an_alarm_rings_when_it_fails_and_when_nothing_runs_it(
    control_plane: Template, metric: str, comparison: str, missing: str
) -> None:
    logical_id, _ = function_named(control_plane, NAME)
    (alarm,) = [
        alarm
        for alarm in control_plane.resources("AWS::CloudWatch::Alarm").values()
        if alarm.get("Dimensions") == [{"Name": "FunctionName", "Value": {"Ref": logical_id}}]
        and alarm["MetricName"] == metric
    ]
    assert (alarm["ComparisonOperator"], alarm["TreatMissingData"]) == (comparison, missing)
    assert NAME in control_plane.text(alarm["AlarmDescription"])
    assert alarm["AlarmActions"] == ["arn:aws:sns:us-east-1:123456789012:pager"]
