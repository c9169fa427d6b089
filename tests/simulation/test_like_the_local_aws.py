"""The simulation answers as the local AWS does: the same calls to both, answers and error codes compared."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local_aws.session import LocalAws
from tests.simulation.balancing import TargetGroup
from tests.simulation.queues import Queue
from tests.simulation.scaling import Group
from tests.simulation.scenario import FleetPlan, Scenario, Weather
from tests.simulation.tables import Index, Table
from tests.simulation.world import World

FLEET_TAG = "spot-failover:fleet"
NAME = "twins"
NODES = ("node0", "node1", "node2")
UNKNOWN = "i-0feedfacefeedface"


@dataclass
class Side:
    """One of the two, with its own names for the same things."""

    clients: Callable[[str], Any]
    names: dict[str, str]
    pass_time: Callable[[float], None]

    def ask(self, service: str, method: str, parameters: Mapping[str, Any]) -> Any:
        """Make a call; return its answer with this side's names taken out, or its error code."""
        given = self._swap(parameters, {f"<{key}>": value for key, value in self.names.items()})
        try:
            answer = getattr(self.clients(service), method)(**given)
        except ClientError as error:
            reasons: Any = error.response.get("CancellationReasons", [])
            return [error.response["Error"]["Code"], *(one["Code"] for one in reasons)]
        answer = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
        return self._swap(answer, {value: f"<{key}>" for key, value in self.names.items()})

    @staticmethod
    def _swap(value: Any, names: Mapping[str, str]) -> Any:
        text = json.dumps(value, default=str)
        for old, new in names.items():
            text = text.replace(old, new)
        return json.loads(text)


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    with LocalAws(tmp_path_factory.mktemp("local-aws"), engine="none") as aws:
        yield _local(aws), _simulated()


def _simulated() -> Side:
    world = World(Scenario(fleets=(FleetPlan(target_groups=0),), weather=Weather(index_lag=0.0)))
    arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/twins/0"
    world.balancing.groups[arn] = TargetGroup(arn, port=9000, tags={FLEET_TAG: NAME})
    group = Group(NAME, 3, {FLEET_TAG: NAME}, (arn,))
    world.nodes.plans[NAME] = FleetPlan().node
    world.groups.add(group)
    for member in group.members.values():
        world.nodes.add(member.instance)
    url = "https://sqs/twins"
    world.sqs.queues[url] = Queue(url, world.timeline, visibility=1.0)
    world.dynamodb.tables[NAME] = Table(("incident", "entry"), {"by_fleet": Index(("fleet", "entry"))})

    def pass_time(seconds: float) -> None:
        world.timeline.run(world.timeline.now + seconds)

    pass_time(10.0)
    names = {"tg": arn, "queue": url, **dict(zip(NODES, group.members, strict=True))}
    return Side(world.client, names, pass_time)


def _local(aws: LocalAws) -> Side:
    ec2, elbv2 = aws.client("ec2"), aws.client("elbv2")
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    subnets = [one["SubnetId"] for one in ec2.describe_subnets()["Subnets"]][:2]
    tag = {"Key": FLEET_TAG, "Value": NAME}
    answer = elbv2.create_target_group(Name=NAME, Protocol="HTTP", Port=9000, VpcId=vpc, Tags=[tag])
    arn = str(answer["TargetGroups"][0]["TargetGroupArn"])
    balancer = elbv2.create_load_balancer(Name=NAME, Subnets=subnets)["LoadBalancers"][0]
    elbv2.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"],
        Protocol="HTTP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": arn}],
    )
    data = {
        "ImageId": ec2.describe_images()["Images"][0]["ImageId"],
        "InstanceType": "g5.xlarge",
        "UserData": base64.b64encode(b"#!/bin/bash\n").decode(),
    }
    ec2.create_launch_template(LaunchTemplateName=NAME, LaunchTemplateData=data)
    scaling = aws.client("autoscaling")
    scaling.create_auto_scaling_group(
        AutoScalingGroupName=NAME,
        MinSize=1,
        MaxSize=4,
        DesiredCapacity=3,
        VPCZoneIdentifier=",".join(subnets),
        TargetGroupARNs=[arn],
        LaunchTemplate={"LaunchTemplateName": NAME, "Version": "$Latest"},
        Tags=[{**tag, "PropagateAtLaunch": True}],
    )
    aws.client("ssm").create_document(
        Name="Twins",
        DocumentType="Command",
        Content=json.dumps(
            {
                "schemaVersion": "2.2",
                "mainSteps": [
                    {"action": "aws:runShellScript", "name": "a", "inputs": {"runCommand": ["true"]}}
                ],
            }
        ),
    )
    nodes = _healthy_nodes(elbv2, arn)
    url = aws.client("sqs").create_queue(QueueName=NAME, Attributes={"VisibilityTimeout": "1"})["QueueUrl"]
    _local_table(aws.client("dynamodb"))
    names = {"tg": arn, "queue": url, **dict(zip(NODES, nodes, strict=True))}
    clients = {one: aws.client(one) for one in ("ec2", "autoscaling", "elbv2", "ssm", "sqs", "dynamodb")}
    return Side(clients.__getitem__, names, time.sleep)


def _healthy_nodes(elbv2: Any, arn: str) -> list[str]:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        found = elbv2.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        healthy = [one["Target"]["Id"] for one in found if one["TargetHealth"]["State"] == "healthy"]
        if len(healthy) == len(NODES):
            return healthy
        time.sleep(0.1)
    pytest.fail("the local fleet did not come up")


def _local_table(dynamodb: Any) -> None:
    texts = [{"AttributeName": name, "AttributeType": "S"} for name in ("incident", "entry", "fleet")]
    dynamodb.create_table(
        TableName=NAME,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=texts,
        KeySchema=_keys("incident", "entry"),
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_fleet",
                "KeySchema": _keys("fleet", "entry"),
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )


def _keys(hash_key: str, range_key: str) -> list[dict[str, str]]:
    return [
        {"AttributeName": hash_key, "KeyType": "HASH"},
        {"AttributeName": range_key, "KeyType": "RANGE"},
    ]


@dataclass(frozen=True)
class Ask:
    """A call, and what of its answer is compared (an error's code is, always)."""

    service: str
    method: str
    parameters: Mapping[str, Any]
    shows: Callable[[Any], Any] = lambda _: "done"
    after: float = 0.0  # seconds to let pass before


def _instances(answer: Any) -> Any:
    found = [one for each in answer["Reservations"] for one in each["Instances"]]
    return sorted((one["InstanceId"], one["State"]["Name"]) for one in found)


def _groups(answer: Any) -> Any:
    return [
        (one["AutoScalingGroupName"], one["TargetGroupARNs"], one["DesiredCapacity"])
        for one in answer["AutoScalingGroups"]
    ]


def _members(answer: Any) -> Any:
    return sorted((one["InstanceId"], one["LifecycleState"]) for one in answer["AutoScalingInstances"])


def _health(answer: Any) -> Any:
    return sorted(
        (one["Target"]["Id"], one["Target"]["Port"], one["TargetHealth"]["State"])
        for one in answer["TargetHealthDescriptions"]
    )


def _received(answer: Any) -> Any:
    return [(one["Body"], one["Attributes"]["ApproximateReceiveCount"]) for one in answer.get("Messages", [])]


def _items(answer: Any) -> Any:
    return answer["Items"]


def _detach(*nodes: str, group: str = NAME) -> Ask:
    parameters = {
        "AutoScalingGroupName": group,
        "InstanceIds": list(nodes),
        "ShouldDecrementDesiredCapacity": False,
    }
    return Ask("autoscaling", "detach_instances", parameters)


def _targets(method: str, *targets: Mapping[str, Any], tg: str = "<tg>") -> Ask:
    return Ask("elbv2", method, {"TargetGroupArn": tg, "Targets": list(targets)})


def _target_health(*nodes: str, after: float = 0.0) -> Ask:
    given = {"TargetGroupArn": "<tg>", "Targets": [{"Id": one} for one in nodes]}
    return Ask("elbv2", "describe_target_health", given, _health, after=after)


def _filtered(**filters: list[str]) -> dict[str, Any]:
    return {"Filters": [{"Name": key.replace("_", "-"), "Values": values} for key, values in filters.items()]}


FLEETS = (
    Ask(
        "ec2",
        "describe_instances",
        _filtered(instance_id=["<node0>", UNKNOWN], tag_key=[FLEET_TAG]),
        _instances,
    ),
    Ask("ec2", "describe_instances", _filtered(instance_id=["<node1>"], tag_key=["other"]), _instances),
    Ask("ec2", "describe_instances", {"InstanceIds": [UNKNOWN]}),
    Ask(
        "autoscaling",
        "describe_auto_scaling_groups",
        {"Filters": [{"Name": f"tag:{FLEET_TAG}", "Values": [NAME]}]},
        _groups,
    ),
    Ask("autoscaling", "describe_auto_scaling_groups", {"AutoScalingGroupNames": ["no-such"]}, _groups),
    Ask("autoscaling", "describe_auto_scaling_instances", {"InstanceIds": ["<node0>", UNKNOWN]}, _members),
    _target_health(*(f"<{one}>" for one in NODES)),
    _detach(UNKNOWN),
    _detach("<node0>", UNKNOWN),
    _detach("<node0>", group="no-such"),
    _target_health("<node0>"),
    _detach("<node0>"),
    _target_health("<node0>"),
    _target_health("<node0>", after=2.0),
    _detach("<node0>"),
    Ask("autoscaling", "describe_auto_scaling_groups", {"AutoScalingGroupNames": [NAME]}, _groups),
    _targets("deregister_targets", {"Id": "<node1>", "Port": 9001}),
    _target_health("<node1>"),
    _targets("deregister_targets", {"Id": "<node1>"}),
    _targets("deregister_targets", {"Id": "<node1>"}),
    _target_health("<node1>"),
    _targets("deregister_targets", {"Id": "<node1>"}, tg="<tg>0"),
    _targets("register_targets", {"Id": UNKNOWN}),
    Ask("ec2", "terminate_instances", {"InstanceIds": [UNKNOWN]}),
    Ask("ec2", "terminate_instances", {"InstanceIds": ["<node2>"]}),
    Ask("ec2", "terminate_instances", {"InstanceIds": ["<node2>"]}, after=2.0),
    _target_health("<node2>"),
    _targets("register_targets", {"Id": "<node2>"}),
)
COMMANDS = (
    Ask("ssm", "send_command", {"DocumentName": "Twins", "InstanceIds": [UNKNOWN]}),
    Ask("ssm", "send_command", {"DocumentName": "Twins", "InstanceIds": ["<node1>", UNKNOWN]}),
    Ask("ssm", "send_command", {"DocumentName": "Twins", "InstanceIds": [f"i-{n:017x}" for n in range(51)]}),
    Ask(
        "ssm",
        "get_command_invocation",
        {"CommandId": "e8d3c0e4-71f7-4491-898f-c9b35bee5f3b", "InstanceId": "<node1>"},
    ),
)


def _entries(*entries: Mapping[str, Any]) -> dict[str, Any]:
    return {"QueueUrl": "<queue>", "Entries": list(entries)}


_RECEIVE = {"QueueUrl": "<queue>", "MaxNumberOfMessages": 10, "AttributeNames": ["ApproximateReceiveCount"]}
MESSAGES = (
    Ask("sqs", "receive_message", _RECEIVE, _received),
    Ask("sqs", "send_message", {"QueueUrl": "<queue>", "MessageBody": "a"}),
    Ask("sqs", "receive_message", _RECEIVE, _received),
    Ask("sqs", "receive_message", _RECEIVE, _received),
    Ask("sqs", "receive_message", _RECEIVE, _received, after=1.2),
    Ask("sqs", "delete_message_batch", _entries()),
    Ask("sqs", "send_message", {"QueueUrl": "<queue>no-such", "MessageBody": "a"}),
)


def _item(incident: str, entry: str, **more: str) -> dict[str, Any]:
    return {name: {"S": value} for name, value in {"incident": incident, "entry": entry, **more}.items()}


def _put(incident: str, entry: str, **more: str) -> dict[str, Any]:
    return {"PutRequest": {"Item": _item(incident, entry, **more)}}


def _once(incident: str, entry: str) -> dict[str, Any]:
    return {
        "Put": {
            "TableName": NAME,
            "Item": _item(incident, entry),
            "ConditionExpression": "attribute_not_exists(#key)",
            "ExpressionAttributeNames": {"#key": "incident"},
        }
    }


def _by_fleet(**more: Any) -> Ask:
    query = {
        "TableName": NAME,
        "IndexName": "by_fleet",
        "KeyConditionExpression": "#fleet = :fleet AND #sort >= :since",
        "ExpressionAttributeNames": {"#fleet": "fleet", "#sort": "entry"},
        "ExpressionAttributeValues": {":fleet": {"S": "chat"}, ":since": {"S": "2"}},
        **more,
    }
    return Ask("dynamodb", "query", query, _items)


ITEMS = (
    Ask(
        "dynamodb",
        "batch_write_item",
        {
            "RequestItems": {
                NAME: [_put("a", "1", fleet="chat"), _put("b", "3", fleet="chat"), _put("c", "2")]
            }
        },
    ),
    Ask("dynamodb", "batch_write_item", {"RequestItems": {NAME: [_put("a", "1"), _put("a", "1")]}}),
    _by_fleet(),
    _by_fleet(ConsistentRead=True),
    Ask("dynamodb", "scan", {"TableName": NAME, "IndexName": "by_fleet"}, lambda one: one["Count"]),
    Ask("dynamodb", "transact_write_items", {"TransactItems": [_once("x", "1"), _once("y", "1")]}),
    Ask("dynamodb", "transact_write_items", {"TransactItems": [_once("z", "1"), _once("y", "1")]}),
    Ask("dynamodb", "get_item", {"TableName": NAME, "Key": _item("z", "1")}, lambda one: one.get("Item")),
    Ask(
        "dynamodb",
        "update_item",
        {
            "TableName": NAME,
            "Key": _item("a", "1"),
            "UpdateExpression": "REMOVE #fleet",
            "ConditionExpression": "attribute_exists(#fleet)",
            "ExpressionAttributeNames": {"#fleet": "fleet"},
        },
    ),
    Ask(
        "dynamodb",
        "update_item",
        {
            "TableName": NAME,
            "Key": _item("a", "1"),
            "UpdateExpression": "REMOVE #fleet",
            "ConditionExpression": "attribute_exists(#fleet)",
            "ExpressionAttributeNames": {"#fleet": "fleet"},
        },
    ),
    _by_fleet(),
    Ask(
        "dynamodb",
        "put_item",
        {
            "TableName": NAME,
            "Item": _item("b", "3"),
            "ConditionExpression": "attribute_not_exists(incident) OR entry < :entry",
            "ExpressionAttributeValues": {":entry": {"S": "3"}},
        },
    ),
)


@pytest.mark.parametrize(
    "asks", [FLEETS, COMMANDS, MESSAGES, ITEMS], ids=["fleets", "commands", "messages", "items"]
)
def test_simulation_and_local_aws_answer_alike(sides: tuple[Side, Side], asks: tuple[Ask, ...]) -> None:
    answers = []
    for side in sides:
        shown = []
        for ask in asks:
            side.pass_time(ask.after)
            answer = side.ask(ask.service, ask.method, ask.parameters)
            shown.append(answer if isinstance(answer, list) else json.loads(json.dumps(ask.shows(answer))))
        answers.append(shown)
    for ask, local, simulated in zip(asks, *answers, strict=True):
        assert simulated == local, f"{ask.method} {ask.parameters}"
