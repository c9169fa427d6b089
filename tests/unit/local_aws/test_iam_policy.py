"""Policies are evaluated as IAM documents it."""

from __future__ import annotations

from typing import Any

import pytest

from local_aws.iam.conditions import UnsupportedConditionError
from local_aws.iam.policy import Decision, Request, evaluate, parse_policy

GROUP = "arn:aws:autoscaling:us-east-1:1:autoScalingGroup:u:autoScalingGroupName/spot-failover-a"


def _decide(*statements: dict[str, Any], **request: Any) -> Decision:
    asked = {"action": "autoscaling:DetachInstances", "resource": GROUP, **request}
    return evaluate(
        [parse_policy({"Version": "2012-10-17", "Statement": list(statements)})], Request(**asked)
    )


def _allow(**given: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": "*", "Resource": "*", **given}


def test_nothing_is_allowed_that_no_statement_allows() -> None:
    assert _decide() is Decision.IMPLICIT_DENY


def test_explicit_deny_wins_wherever_it_stands() -> None:
    deny = {**_allow(Action="autoscaling:Detach*"), "Effect": "Deny"}
    assert _decide(_allow(), deny) is Decision.EXPLICIT_DENY
    assert _decide(deny, _allow()) is Decision.EXPLICIT_DENY


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*", True),
        ("autoscaling:*", True),
        ("AutoScaling:detachinstances", True),
        ("autoscaling:Detach?nstances", True),
        ("autoscaling:Detach", False),
        ("autoscaling:Describe*", False),
        ("ec2:DetachInstances", False),
    ],
)
def test_action_wildcards(pattern: str, matches: bool) -> None:
    assert (_decide(_allow(Action=[pattern])) is Decision.ALLOW) is matches


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (GROUP, True),
        ("arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/spot-failover-*", True),
        ("arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/other-*", False),
        (GROUP.upper(), False),
        ("arn:aws:autoscaling:*:*:autoScalingGroup:*:autoScalingGroupName/${aws:PrincipalAccount}", False),
    ],
)
def test_resource_wildcards(pattern: str, matches: bool) -> None:
    assert (_decide(_allow(Resource=pattern)) is Decision.ALLOW) is matches


def test_not_action_and_not_resource() -> None:
    statement = _allow(NotAction="ec2:*")
    del statement["Action"]
    assert _decide(statement) is Decision.ALLOW
    assert _decide(statement, action="ec2:RunInstances") is Decision.IMPLICIT_DENY
    statement = _allow(NotResource=GROUP)
    del statement["Resource"]
    assert _decide(statement) is Decision.IMPLICIT_DENY


KEY = "aws:ResourceTag/spot-failover:fleet"


@pytest.mark.parametrize(
    ("condition", "context", "met"),
    [
        ({"StringEquals": {KEY: "a"}}, {KEY: "a"}, True),
        ({"StringEquals": {KEY: ["b", "a"]}}, {KEY: "a"}, True),
        ({"StringEquals": {KEY: "a"}}, {KEY: "A"}, False),
        ({"StringEquals": {KEY.upper(): "a"}}, {KEY: "a"}, True),
        ({"StringEquals": {KEY: "a"}}, {}, False),
        ({"StringEqualsIfExists": {KEY: "a"}}, {}, True),
        ({"StringEqualsIfExists": {KEY: "a"}}, {KEY: "b"}, False),
        ({"StringNotEquals": {KEY: "a"}}, {KEY: "b"}, True),
        ({"StringNotEquals": {KEY: ["a", "b"]}}, {KEY: "b"}, False),
        ({"StringNotEquals": {KEY: "a"}}, {}, True),
        ({"StringEqualsIgnoreCase": {KEY: "A"}}, {KEY: "a"}, True),
        ({"StringLike": {KEY: "fle?t-*"}}, {KEY: "fleet-1"}, True),
        ({"StringNotLike": {KEY: "fleet-*"}}, {KEY: "fleet-1"}, False),
        ({"Null": {KEY: "false"}}, {KEY: ""}, True),
        ({"Null": {KEY: "false"}}, {}, False),
        ({"Null": {KEY: True}}, {}, True),
        ({"Bool": {"aws:SecureTransport": "true"}}, {"aws:SecureTransport": "true"}, True),
        ({"Bool": {"aws:SecureTransport": False}}, {"aws:SecureTransport": "true"}, False),
        ({"NumericLessThan": {"n": 10}}, {"n": "9"}, True),
        ({"ArnLike": {"s": "arn:aws:ec2:*:1:instance/*"}}, {"s": "arn:aws:ec2:r:1:instance/i"}, True),
        ({"ArnLike": {"s": "arn:aws:*:instance/*"}}, {"s": "arn:aws:ec2:r:1:instance/i"}, False),
        ({"ArnNotEquals": {"s": "arn:aws:ec2:r:1:x/y"}}, {"s": "arn:aws:ec2:r:1:instance/i"}, True),
        ({"ForAnyValue:StringEquals": {"k": ["a", "b"]}}, {"k": ["b", "c"]}, True),
        ({"ForAnyValue:StringEquals": {"k": ["a"]}}, {"k": ["b", "c"]}, False),
        ({"ForAnyValue:StringEquals": {"k": ["a"]}}, {}, False),
        ({"ForAllValues:StringEquals": {"k": ["a", "b"]}}, {"k": ["a", "b"]}, True),
        ({"ForAllValues:StringEquals": {"k": ["a"]}}, {"k": ["a", "b"]}, False),
        ({"ForAllValues:StringEquals": {"k": ["a"]}}, {}, True),
        ({"StringEquals": {KEY: "a"}, "Null": {"other": "true"}}, {KEY: "a"}, True),
        ({"StringEquals": {KEY: "a", "other": "b"}}, {KEY: "a"}, False),
        ({"StringEquals": {KEY: "${aws:PrincipalAccount}"}}, {KEY: "1", "aws:PrincipalAccount": "1"}, True),
        ({"StringEquals": {KEY: "${aws:username}"}}, {KEY: ""}, False),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, Any], met: bool) -> None:
    decision = _decide(_allow(Condition=condition), context=context)
    assert (decision is Decision.ALLOW) is met


@pytest.mark.parametrize("operator", ["DateLessThan", "IpAddress", "StringSounds", "ForNoValue:StringEquals"])
def test_operator_that_is_not_emulated_is_an_error_and_never_an_allow(operator: str) -> None:
    with pytest.raises(UnsupportedConditionError, match=operator):
        _decide(_allow(Condition={operator: {KEY: "a"}}), context={KEY: "a"})


def test_trust_policy_trusts_the_services_it_names() -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    asked = {"action": "sts:AssumeRole", "resource": None}
    assert _decide(trust, **asked, service="ec2.amazonaws.com") is Decision.ALLOW
    assert _decide(trust, **asked, service="lambda.amazonaws.com") is Decision.IMPLICIT_DENY
    assert _decide({**trust, "Principal": "*"}, **asked, service="x") is Decision.ALLOW


def test_trust_policy_trusts_the_roles_it_names() -> None:
    node = "arn:aws:iam::1:role/node"
    trust = {"Effect": "Allow", "Principal": {"AWS": node}, "Action": "sts:AssumeRole"}
    asked = {"action": "sts:AssumeRole", "resource": None}
    assert _decide(trust, **asked, principal=node) is Decision.ALLOW
    assert _decide(trust, **asked, principal=f"{node}-2") is Decision.IMPLICIT_DENY
    assert _decide(trust, **asked, service="ec2.amazonaws.com") is Decision.IMPLICIT_DENY
    service = {**trust, "Principal": {"Service": "ec2.amazonaws.com"}}
    assert _decide(service, **asked, principal=node) is Decision.IMPLICIT_DENY


def test_statement_without_an_effect_is_an_error() -> None:
    with pytest.raises(ValueError, match="Effect"):
        _decide({"Action": "*", "Resource": "*"})
