"""CloudFormation: what is not emulated fails by its name; what moto would drop is there."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

ROLE: dict[str, Any] = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": []},
        "ManagedPolicyArns": ["arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"],
    },
}


def _create(bench: Any, resources: dict[str, Any], **parts: Any) -> dict[str, str]:
    """Create a stack; return the physical names of its resources."""
    client = bench.aws.client("cloudformation")
    name = f"stack-{uuid.uuid4().hex[:8]}"
    client.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": resources, **parts}))
    found = client.describe_stack_resources(StackName=name)["StackResources"]
    return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found}


@pytest.mark.parametrize("kind", ["AWS::Quantum::Flux", "AWS::AutoScaling::WarmPool"])
def test_resource_type_without_a_model_fails_the_stack_by_its_name(bench: Any, kind: str) -> None:
    with pytest.raises(Exception, match=f"no model for the resource type {kind}"):
        _create(bench, {"X": {"Type": kind}})


def test_failure_inside_a_resource_names_the_resource(bench: Any) -> None:
    with pytest.raises(Exception, match=r"Broken \(AWS::SSM::Document\)"):
        _create(bench, {"Broken": {"Type": "AWS::SSM::Document", "Properties": {"Content": "{"}}})


def test_unknown_image_parameter_fails_by_its_name(bench: Any) -> None:
    parameter = {"Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", "Default": "/no/such/ami"}
    with pytest.raises(Exception, match="no SSM parameter /no/such/ami"):
        _create(bench, {"Role": ROLE}, Parameters={"Ami": parameter})


def test_recorded_resource_is_written_down_and_has_an_arn(bench: Any) -> None:
    made = _create(
        bench,
        {
            "Query": {
                "Type": "AWS::Logs::QueryDefinition",
                "Properties": {"Name": "q", "QueryString": "fields @message"},
            },
            "Role": {
                **ROLE,
                "Properties": {**ROLE["Properties"], "Description": {"Fn::GetAtt": ["Query", "Arn"]}},
            },
        },
    )
    role = bench.aws.client("iam").get_role(RoleName=made["Role"])["Role"]
    assert role["Description"].startswith("arn:aws:logs:us-east-1:123456789012:querydefinition/")


def test_properties_that_moto_drops_are_kept(bench: Any) -> None:
    document = {"schemaVersion": "2.2", "mainSteps": [], "parameters": {}}
    made = _create(
        bench,
        {
            "Role": ROLE,
            "Document": {"Type": "AWS::SSM::Document", "Properties": {"Name": "Drain", "Content": document}},
            "Table": {
                "Type": "AWS::DynamoDB::Table",
                "Properties": {
                    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                    "BillingMode": "PAY_PER_REQUEST",
                    "TimeToLiveSpecification": {"AttributeName": "expires_at", "Enabled": True},
                },
            },
            "Queue": {"Type": "AWS::SQS::Queue"},
            "Policy": {
                "Type": "AWS::SQS::QueuePolicy",
                "Properties": {
                    "Queues": [{"Ref": "Queue"}],
                    "PolicyDocument": {
                        "Statement": [
                            {"Effect": "Allow", "Principal": "*", "Action": "sqs:*", "Resource": "*"}
                        ]
                    },
                },
            },
            "Alarm": {
                "Type": "AWS::CloudWatch::Alarm",
                "Properties": {
                    "AlarmName": "old-message",
                    "Namespace": "AWS/SQS",
                    "MetricName": "ApproximateAgeOfOldestMessage",
                    "Dimensions": [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["Queue", "QueueName"]}}],
                    "ComparisonOperator": "GreaterThanThreshold",
                    "EvaluationPeriods": 1,
                    "Threshold": 60,
                    "Period": 60,
                    "Statistic": "Maximum",
                },
            },
            "QueryAlarm": {
                "Type": "AWS::CloudWatch::Alarm",
                "Properties": {
                    "AlarmName": "query",
                    "Metrics": [{"Expression": "SELECT SUM(x) FROM y", "Id": "expr_1", "Period": 60}],
                    "ComparisonOperator": "GreaterThanThreshold",
                    "EvaluationPeriods": 1,
                    "Threshold": 0,
                },
            },
        },
    )
    client = bench.aws.client
    attached = client("iam").list_attached_role_policies(RoleName=made["Role"])["AttachedPolicies"]
    assert [each["PolicyName"] for each in attached] == ["AmazonSSMManagedInstanceCore"]
    assert json.loads(client("ssm").get_document(Name="Drain")["Content"]) == document
    ttl = client("dynamodb").describe_time_to_live(TableName=made["Table"])["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    queue = client("sqs").get_queue_url(QueueName=made["Queue"].rsplit("/", 1)[-1])["QueueUrl"]
    policy = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["Policy"])
    assert '"Principal": "*"' in policy["Attributes"]["Policy"]
    alarms = {one["AlarmName"]: one for one in client("cloudwatch").describe_alarms()["MetricAlarms"]}
    assert alarms["old-message"]["Dimensions"][0]["Name"] == "QueueName"
    assert alarms["query"]["Metrics"][0]["Expression"] == "SELECT SUM(x) FROM y"


def test_call_that_moto_lacks_is_a_clear_error(bench: Any) -> None:
    with pytest.raises(Exception, match=r"NotImplemented.*the local AWS cannot do ec2:ExportImage"):
        bench.aws.client("ec2").export_image(
            DiskImageFormat="RAW", ImageId="ami-1", S3ExportLocation={"S3Bucket": "b"}
        )


def test_arn_of_a_log_group_covers_its_streams(bench: Any) -> None:
    made = _create(
        bench,
        {
            "Group": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "/fleet"}},
            "Role": {
                **ROLE,
                "Properties": {**ROLE["Properties"], "Description": {"Fn::GetAtt": ["Group", "Arn"]}},
            },
        },
    )
    role = bench.aws.client("iam").get_role(RoleName=made["Role"])["Role"]
    assert role["Description"] == "arn:aws:logs:us-east-1:123456789012:log-group:/fleet:*"
