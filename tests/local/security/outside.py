"""What lies outside the fleet tag, and the calls that would reach for it with a function's role."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.local.faults.plane import FUNCTIONS, Plane

ROLES = (*FUNCTIONS, "sweep_incidents")
DRAIN_DOCUMENT = "SpotFailover-DrainNode"
SOMEBODYS = "somebodys"


@dataclass(frozen=True)
class Things:
    """One of each kind that carries the fleet tag, and one of each that does not."""

    node: str
    group: str
    target_group: str
    foreign_instance: str
    foreign_group: str
    foreign_group_member: str
    foreign_target_group: str
    foreign_document: str
    foreign_table: str
    foreign_queue: str
    table: str
    queues: Mapping[str, str]
    dead_letter_queues: Mapping[str, str]


def make_things(plane: Plane) -> Things:
    """Make somebody else's group, target group, document, table and queue beside the fleets."""
    aws, fleet = plane.aws, next(iter(plane))
    elbv2, autoscaling = aws.client("elbv2"), aws.client("autoscaling")
    vpc = aws.client("ec2").describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]
    target_group = elbv2.create_target_group(
        Name=SOMEBODYS, Protocol="HTTP", Port=80, VpcId=vpc["VpcId"], HealthCheckIntervalSeconds=5
    )
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName=SOMEBODYS,
        MinSize=0,
        MaxSize=2,
        DesiredCapacity=1,
        AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateName": "bare", "Version": "$Latest"},
    )
    document = {
        "schemaVersion": "2.2",
        "description": "somebody's own",
        "mainSteps": [
            {"action": "aws:runShellScript", "name": "run", "inputs": {"runCommand": ["echo somebody"]}}
        ],
    }
    aws.client("ssm").create_document(Name=SOMEBODYS, DocumentType="Command", Content=json.dumps(document))
    aws.client("dynamodb").create_table(
        TableName=SOMEBODYS,
        AttributeDefinitions=[{"AttributeName": "incident", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "incident", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    queue = aws.client("sqs").create_queue(QueueName=SOMEBODYS)["QueueUrl"]
    plane.fleets.wait_until_in_service(SOMEBODYS, 1)
    return Things(
        node=plane.fleets.steady(fleet, 1),
        group=fleet.group,
        target_group=fleet.target_group,
        foreign_instance=plane.instance(),
        foreign_group=SOMEBODYS,
        foreign_group_member=plane.fleets.members_of(SOMEBODYS)[0],
        foreign_target_group=target_group["TargetGroups"][0]["TargetGroupArn"],
        foreign_document=SOMEBODYS,
        foreign_table=SOMEBODYS,
        foreign_queue=queue,
        table=plane.table,
        queues={name: driver.queue_url for name, driver in plane.drivers.items()},
        dead_letter_queues={name: driver.dead_letters_url for name, driver in plane.drivers.items()},
    )


Parameters = Callable[[Things], dict[str, Any]]


@dataclass(frozen=True)
class Reach:
    """One call that a function's role is refused."""

    service: str
    operation: str
    parameters: Parameters

    @property
    def name(self) -> str:
        """The call in words."""
        return f"{self.service}.{self.operation}"


def _deadlines(*instance_ids: str) -> dict[str, list[str]]:
    return {"Deadlines": [",".join(f"{one}@2026-11-25T10:00:00Z" for one in instance_ids)]}


# Refused to every function, on what is outside the fleet tag.
OUTSIDE: Mapping[str, Reach] = {
    "detach from somebody's group": Reach(
        "autoscaling",
        "detach_instances",
        lambda t: {
            "AutoScalingGroupName": t.foreign_group,
            "InstanceIds": [t.foreign_group_member],
            "ShouldDecrementDesiredCapacity": False,
        },
    ),
    "deregister from somebody's target group": Reach(
        "elbv2",
        "deregister_targets",
        lambda t: {"TargetGroupArn": t.foreign_target_group, "Targets": [{"Id": t.foreign_instance}]},
    ),
    "register in somebody's target group": Reach(
        "elbv2",
        "register_targets",
        lambda t: {"TargetGroupArn": t.foreign_target_group, "Targets": [{"Id": t.node}]},
    ),
    "drain somebody's instance": Reach(
        "ssm",
        "send_command",
        lambda t: {
            "DocumentName": DRAIN_DOCUMENT,
            "InstanceIds": [t.foreign_instance],
            "Parameters": _deadlines(t.foreign_instance),
        },
    ),
    "drain a node and somebody's instance in one": Reach(
        "ssm",
        "send_command",
        lambda t: {
            "DocumentName": DRAIN_DOCUMENT,
            "InstanceIds": [t.node, t.foreign_instance],
            "Parameters": _deadlines(t.node, t.foreign_instance),
        },
    ),
    "end somebody's instance": Reach(
        "ec2", "terminate_instances", lambda t: {"InstanceIds": [t.foreign_instance]}
    ),
    "end a node and somebody's instance in one": Reach(
        "ec2", "terminate_instances", lambda t: {"InstanceIds": [t.node, t.foreign_instance]}
    ),
    "write into somebody's table": Reach(
        "dynamodb",
        "batch_write_item",
        lambda t: {"RequestItems": {t.foreign_table: [{"PutRequest": {"Item": {"incident": {"S": "x"}}}}]}},
    ),
    "put into somebody's table": Reach(
        "dynamodb", "put_item", lambda t: {"TableName": t.foreign_table, "Item": {"incident": {"S": "x"}}}
    ),
    "send to somebody's queue": Reach(
        "sqs", "send_message", lambda t: {"QueueUrl": t.foreign_queue, "MessageBody": "x"}
    ),
    "take from somebody's queue": Reach("sqs", "receive_message", lambda t: {"QueueUrl": t.foreign_queue}),
}

# Refused to every function, even on what carries the fleet tag or is the control plane's own.
NOBODY_MAY: Mapping[str, Reach] = {
    "run any script on a node": Reach(
        "ssm",
        "send_command",
        lambda t: {
            "DocumentName": "AWS-RunShellScript",
            "InstanceIds": [t.node],
            "Parameters": {"commands": ["id"]},
        },
    ),
    "run somebody's document on a node": Reach(
        "ssm", "send_command", lambda t: {"DocumentName": t.foreign_document, "InstanceIds": [t.node]}
    ),
    "set a group's capacity": Reach(
        "autoscaling",
        "set_desired_capacity",
        lambda t: {"AutoScalingGroupName": t.group, "DesiredCapacity": 0},
    ),
    "end a group's instance": Reach(
        "autoscaling",
        "terminate_instance_in_auto_scaling_group",
        lambda t: {"InstanceId": t.node, "ShouldDecrementDesiredCapacity": True},
    ),
    "delete a group": Reach(
        "autoscaling", "delete_auto_scaling_group", lambda t: {"AutoScalingGroupName": t.group}
    ),
    "stop a node": Reach("ec2", "stop_instances", lambda t: {"InstanceIds": [t.node]}),
    "tag an instance into a fleet": Reach(
        "ec2",
        "create_tags",
        lambda t: {
            "Resources": [t.foreign_instance],
            "Tags": [{"Key": "spot-failover:fleet", "Value": "faults-a"}],
        },
    ),
    "delete a target group": Reach(
        "elbv2", "delete_target_group", lambda t: {"TargetGroupArn": t.target_group}
    ),
    "replace the drain document": Reach(
        "ssm", "update_document", lambda _: {"Name": DRAIN_DOCUMENT, "Content": "{}"}
    ),
    "delete an incident": Reach(
        "dynamodb",
        "delete_item",
        lambda t: {"TableName": t.table, "Key": {"incident": {"S": "i"}, "entry": {"S": "e"}}},
    ),
    "read all incidents": Reach("dynamodb", "scan", lambda t: {"TableName": t.table}),
    "invoke a function": Reach(
        "lambda", "invoke", lambda _: {"FunctionName": "spot-failover-drain_node", "Payload": b"{}"}
    ),
    "change its own role": Reach(
        "iam",
        "put_role_policy",
        lambda _: {"RoleName": "any", "PolicyName": "more", "PolicyDocument": "{}"},
    ),
}


@lru_cache(maxsize=64)  # to make one takes longer than its call
def client(plane: Plane, function: str, service: str) -> Any:
    """Return a client that calls AWS with a deployed function's role."""
    own = plane.aws.control.function_environment(function)["variables"]
    session = boto3.session.Session(
        aws_access_key_id=own["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=own["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=own["AWS_SESSION_TOKEN"],
        region_name=plane.aws.region,
    )
    once = Config(retries={"total_max_attempts": 1})
    return session.client(service, endpoint_url=plane.aws.endpoint_url, config=once)


def answer(plane: Plane, function: str, reach: Reach, things: Things) -> str:
    """Make the call with a function's role; return the error's code and message, or "" for success."""
    try:
        getattr(client(plane, function, reach.service), reach.operation)(**reach.parameters(things))
    except ClientError as error:
        return f"{error.response['Error']['Code']}: {error.response['Error']['Message']}"
    return ""
