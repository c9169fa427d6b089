"""What a role may do is what its policies say: action, resource, tags; in each service's own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

TAG = "aws:ResourceTag/spot-failover:fleet"


@pytest.fixture(scope="module")
def powerless(bench: Any, caller_source: str) -> str:
    bench.function("powerless", caller_source)
    return "powerless"


@pytest.mark.parametrize(
    ("service", "operation", "params", "code", "status"),
    [
        ("ec2", "describe_instances", {}, "UnauthorizedOperation", 403),
        ("autoscaling", "describe_auto_scaling_groups", {}, "AccessDenied", 403),
        ("elbv2", "describe_target_groups", {}, "AccessDenied", 403),
        ("ssm", "send_command", {"DocumentName": "D", "InstanceIds": ["i-1"]}, "AccessDeniedException", 400),
        ("sqs", "send_message", {"QueueUrl": "{url}", "MessageBody": "x"}, "AccessDenied", 403),
        ("dynamodb", "scan", {"TableName": "T"}, "AccessDeniedException", 400),
        ("s3", "get_object", {"Bucket": "b", "Key": "k"}, "AccessDenied", 403),
        ("lambda", "invoke", {"FunctionName": "f"}, "AccessDeniedException", 403),
        ("cloudwatch", "put_metric_data", {"Namespace": "n", "MetricData": []}, "AccessDenied", 403),
    ],
)
def test_denial_is_told_in_the_services_own_protocol(
    bench: Any, powerless: str, service: str, operation: str, params: dict[str, Any], code: str, status: int
) -> None:
    if "QueueUrl" in params:
        params = {**params, "QueueUrl": f"{bench.aws.endpoint_url}/123456789012/q"}
    answer = bench.call(powerless, service, operation, **params)
    assert (answer["Code"], answer["status"]) == (code, status), answer
    assert "powerless-role is not authorized to perform" in answer["Message"]
    last = bench.aws.control.calls("powerless-role")[-1]
    assert last["result"] == code


def test_identity_may_always_be_asked_for(bench: Any, powerless: str) -> None:
    assert bench.call(powerless, "sts", "get_caller_identity")["Code"] == "ok"


def test_action_that_nobody_has_mapped_is_denied_by_name(bench: Any, caller_source: str) -> None:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    bench.function("almighty", caller_source, everything)
    answer = bench.call("almighty", "ec2", "describe_vpcs")
    assert answer["Code"] == "UnauthorizedOperation"
    assert "ec2:DescribeVpcs is unknown to the local AWS's IAM" in answer["Message"]


def test_tag_of_the_resource_decides(bench: Any, caller_source: str) -> None:
    tagged = {
        "Effect": "Allow",
        "Action": "elasticloadbalancing:DeregisterTargets",
        "Resource": "*",
        "Condition": {"Null": {TAG: "false"}},
    }
    bench.function("tagged", caller_source, tagged)
    elb, vpc = bench.aws.client("elbv2"), bench.aws.client("ec2").describe_vpcs()["Vpcs"][0]["VpcId"]
    given = {"Protocol": "HTTP", "Port": 80, "VpcId": vpc}
    mine, other = (
        elb.create_target_group(Name=name, Tags=tags, **given)["TargetGroups"][0]["TargetGroupArn"]
        for name, tags in (
            ("mine", [{"Key": "spot-failover:fleet", "Value": "f"}]),
            ("other", [{"Key": "team", "Value": "x"}]),
        )
    )
    denied = bench.call(
        "tagged", "elbv2", "deregister_targets", TargetGroupArn=other, Targets=[{"Id": "i-1"}]
    )
    assert denied["Code"] == "AccessDenied"
    assert "conditions not met" in denied["Message"]
    assert TAG in denied["Message"]
    allowed = bench.call(
        "tagged", "elbv2", "deregister_targets", TargetGroupArn=mine, Targets=[{"Id": "i-1"}]
    )
    assert allowed["Code"] != "AccessDenied"


def test_resource_arn_and_explicit_deny_decide(bench: Any, caller_source: str) -> None:
    _, arn = bench.queue("permitted")
    bench.queue("forbidden")
    bench.function(
        "sender",
        caller_source,
        {"Effect": "Allow", "Action": "sqs:Send*", "Resource": [arn, f"{arn[:-9]}denied-*"]},
        {"Effect": "Deny", "Action": "sqs:*", "Resource": f"{arn[:-9]}denied-always"},
    )
    bench.queue("denied-always")
    codes = {
        name: bench.call(
            "sender",
            "sqs",
            "send_message",
            QueueUrl=f"{bench.aws.endpoint_url}/123456789012/{name}",
            MessageBody="x",
        )["Code"]
        for name in ("permitted", "forbidden", "denied-always")
    }
    assert codes == {"permitted": "ok", "forbidden": "AccessDenied", "denied-always": "AccessDenied"}


def test_transaction_needs_what_its_items_need(bench: Any, caller_source: str) -> None:
    dynamodb = bench.aws.client("dynamodb")
    table = dynamodb.create_table(
        TableName="incidents",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )["TableDescription"]["TableArn"]
    bench.function(
        "writer", caller_source, {"Effect": "Allow", "Action": "dynamodb:PutItem", "Resource": table}
    )
    item = {"TableName": "incidents", "Item": {"id": {"S": "1"}}}
    key = {"TableName": "incidents", "Key": {"id": {"S": "1"}}}
    put = bench.call("writer", "dynamodb", "transact_write_items", TransactItems=[{"Put": item}])
    assert put["Code"] == "ok"
    both = bench.call(
        "writer", "dynamodb", "transact_write_items", TransactItems=[{"Put": item}, {"Delete": key}]
    )
    assert both["Code"] == "AccessDeniedException"
    assert "dynamodb:DeleteItem" in both["Message"]


def test_permission_taken_away_is_gone_for_the_next_call(bench: Any, caller_source: str) -> None:
    bench.function("fading", caller_source, {"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"})
    assert bench.call("fading", "ec2", "describe_instances")["Code"] == "ok"
    bench.aws.client("iam").delete_role_policy(RoleName="fading-role", PolicyName="own")
    assert bench.call("fading", "ec2", "describe_instances")["Code"] == "UnauthorizedOperation"


def test_managed_policy_and_boundary_count(bench: Any, caller_source: str) -> None:
    iam = bench.aws.client("iam")
    bench.function("bounded", caller_source)
    iam.attach_role_policy(
        RoleName="bounded-role", PolicyArn="arn:aws:iam::aws:policy/AmazonEC2ReadOnlyAccess"
    )
    assert bench.call("bounded", "ec2", "describe_instances")["Code"] == "ok"
    boundary = iam.create_policy(
        PolicyName="nothing",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
            }
        ),
    )["Policy"]["Arn"]
    iam.put_role_permissions_boundary(RoleName="bounded-role", PermissionsBoundary=boundary)
    assert bench.call("bounded", "ec2", "describe_instances")["Code"] == "UnauthorizedOperation"


def test_condition_operator_that_is_not_emulated_denies_and_is_named(bench: Any, caller_source: str) -> None:
    dated = {
        "Effect": "Allow",
        "Action": "ec2:DescribeInstances",
        "Resource": "*",
        "Condition": {"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}},
    }
    bench.function("dated", caller_source, dated)
    answer = bench.call("dated", "ec2", "describe_instances")
    assert "condition operator 'DateGreaterThan' is not emulated" in answer["Message"]


def test_lambda_logs_with_the_functions_role_and_that_is_on_record(bench: Any) -> None:
    logging = {
        "Effect": "Allow",
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": "arn:aws:logs:*:*:log-group:/aws/lambda/logging:*",
    }
    bench.function("logging", "def handler(event, context): return 1\n", logging)
    bench.function("silent", "def handler(event, context): return 1\n")
    bench.invoke("logging")
    bench.invoke("silent")
    made = {
        name: [(c["action"], c["result"]) for c in bench.aws.control.calls(f"{name}-role")]
        for name in ("logging", "silent")
    }
    assert made == {
        "logging": [("logs:CreateLogStream", "ok"), ("logs:PutLogEvents", "ok")],
        "silent": [("logs:CreateLogStream", "AccessDenied")],
    }
