"""Least privilege: describes may take `*`; everything else is bound to the fleet tag or to an ARN."""

from __future__ import annotations

import re

import pytest

from tests.infra.templates import Statement, Template

FLEET_TAG = "spot-failover:fleet"
READS_ANYTHING = re.compile(
    r"(ec2|autoscaling|elasticloadbalancing):Describe[A-Za-z]+|ssm:ListCommandInvocations|tag:GetResources"
)
EVERY_FUNCTION = {
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ChangeMessageVisibility",
    "sqs:SendMessage",
    "dynamodb:BatchWriteItem",
}
OWN = {
    "deregister_target": {
        "ec2:DescribeInstances",
        "autoscaling:DescribeAutoScalingGroups",
        "elasticloadbalancing:DescribeTargetHealth",
        "elasticloadbalancing:DeregisterTargets",
        "elasticloadbalancing:RegisterTargets",
        "tag:GetResources",
    },
    "drain_node": {"ec2:DescribeInstances", "ssm:SendCommand"},
    "request_replacement": {
        "ec2:DescribeInstances",
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeAutoScalingInstances",
        "autoscaling:DetachInstances",
    },
    "track_incident": {
        "autoscaling:DescribeAutoScalingGroups",
        "ssm:ListCommandInvocations",
        "dynamodb:Query",
        "dynamodb:PutItem",
    },
}


def statements_of(control_plane: Template, name: str) -> list[Statement]:
    (role,) = [
        function["Role"]["Fn::GetAtt"][0]
        for function in control_plane.resources("AWS::Lambda::Function").values()
        if function["Handler"].startswith(f"{name}.")
    ]
    assert "ManagedPolicyArns" not in control_plane.body["Resources"][role]["Properties"]
    return control_plane.statements(role)


def is_bound_to_the_fleet_tag(statement: Statement) -> bool:
    return statement.conditions in (
        {"Null": {f"aws:ResourceTag/{FLEET_TAG}": "false"}},
        {"Null": {f"ssm:resourceTag/{FLEET_TAG}": "false"}},
    )


@pytest.mark.parametrize("name", OWN)
def test_a_function_may_do_what_it_does_and_nothing_else(control_plane: Template, name: str) -> None:
    granted = [action for statement in statements_of(control_plane, name) for action in statement.actions]
    assert set(granted) == EVERY_FUNCTION | OWN[name]
    assert not [action for action in granted if "*" in action]


@pytest.mark.parametrize("name", OWN)
def test_a_wildcard_is_for_reading_or_bound_to_the_fleet_tag(control_plane: Template, name: str) -> None:
    for statement in statements_of(control_plane, name):
        assert statement.effect == "Allow"
        for resource in statement.resources:
            if resource == "*":
                assert all(READS_ANYTHING.fullmatch(action) for action in statement.actions), statement
            elif "*" in resource:
                assert is_bound_to_the_fleet_tag(statement), statement
            else:
                assert not statement.conditions, statement


@pytest.mark.parametrize(
    ("name", "action", "resources"),
    [
        (
            "deregister_target",
            "elasticloadbalancing:DeregisterTargets",
            {"arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/*"},
        ),
        (
            "drain_node",
            "ssm:SendCommand",
            {
                "arn:aws:ssm:us-east-1:123456789012:document/SpotFailover-DrainNode",
                "arn:aws:ec2:us-east-1:123456789012:instance/*",
            },
        ),
        (
            "request_replacement",
            "autoscaling:DetachInstances",
            {"arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/*"},
        ),
    ],
)
def test_an_action_reaches_its_own_kind_of_resource_in_this_account_and_region(
    control_plane: Template, name: str, action: str, resources: set[str]
) -> None:
    bound = [statement for statement in statements_of(control_plane, name) if action in statement.actions]
    assert {resource for statement in bound for resource in statement.resources} == resources
