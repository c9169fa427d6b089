"""What is answered faster is answered the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.ec2.models import ec2_backends
from moto.sqs.models import sqs_backends

from local_aws.endpoint import fast_answers, fast_stores, remembered_instances
from local_aws.nodes import instance_index

NODES = 30


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield lambda service: boto3.client(service, region_name="us-east-1")


@pytest.fixture
def ec2(client: Callable[[str], Any]) -> Any:
    return client("ec2")


def _launch(ec2: Any, count: int, **tags: str) -> list[str]:
    specification = {"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}
    found = ec2.run_instances(
        ImageId="ami-12345678", MinCount=count, MaxCount=count, TagSpecifications=[specification]
    )
    return [each["InstanceId"] for each in found["Instances"]]


def _answers(ec2: Any, ids: list[str]) -> list[Any]:
    """Ask in all the ways that are answered from the index, and in some that are not."""

    def told(call: Any, **given: Any) -> Any:
        try:
            answer = call(**given)
        except ClientError as err:
            return err.response["Error"]
        return {key: value for key, value in answer.items() if key != "ResponseMetadata"}

    def by(name: str, *values: str) -> dict[str, Any]:
        return {"Name": name, "Values": list(values)}

    instances, tags = ec2.describe_instances, ec2.describe_tags
    stranger = "i-00000000000000000"
    return [
        told(instances),
        told(instances, InstanceIds=ids[7:2:-1]),
        told(instances, InstanceIds=[ids[3], stranger]),
        told(instances, InstanceIds=ids[:3], Filters=[by("tag:role", "other")]),
        told(instances, Filters=[by("instance-id", *ids[::-2])]),
        told(instances, Filters=[by("instance-id", *ids[:4], stranger), by("tag-key", "fleet")]),
        told(instances, Filters=[by("instance-id", "i-*")]),
        told(instances, Filters=[by("instance-id", *ids), by("tag:fleet", "chat")], MaxResults=5),
        told(tags, Filters=[by("resource-id", ids[0])]),
        told(tags, Filters=[by("resource-id", "i-*")]),
        told(tags, Filters=[by("resource-id", stranger)]),
        told(tags, Filters=[by("resource-id", ids[0]), by("key", "fleet")]),
        told(ec2.describe_images, Filters=[by("image-id", "ami-12345678")]),
        told(ec2.describe_images, Filters=[by("image-id", "ami-00000000")]),
        told(ec2.describe_instance_status, InstanceIds=ids[:2], IncludeAllInstances=True),
    ]


def test_instances_tags_and_images_are_described_as_before(ec2: Any) -> None:
    ids = _launch(ec2, 4, fleet="chat") + _launch(ec2, 1, role="other")
    ids += [_launch(ec2, 1, fleet="chat", role="other")[0] for _ in range(NODES)]
    ec2.terminate_instances(InstanceIds=ids[-3:])
    before = _answers(ec2, ids)
    fast_answers.install()
    assert _answers(ec2, ids) == before
    instance_index.install()
    assert _answers(ec2, ids) == before
    remembered_instances.install()
    assert _answers(ec2, ids) == before
    assert _answers(ec2, ids) == before
    # What is launched from now on is found by the index.
    more = [_launch(ec2, 2, fleet="chat")[0] for _ in range(8)]
    by_index = [_answers(ec2, more)[number] for number in (1, 4, 8)]
    assert [each["InstanceId"] for r in by_index[1]["Reservations"] for each in r["Instances"]] == more[1::2]
    assert by_index[2]["Tags"] == [
        {"Key": "fleet", "ResourceId": more[0], "ResourceType": "instance", "Value": "chat"}
    ]


def test_instances_are_paged_where_it_is_asked_for_and_only_there(ec2: Any) -> None:
    instance_index.install()
    ids = [_launch(ec2, 1, fleet="chat")[0] for _ in range(105)]
    assert len(ec2.describe_instances()["Reservations"]) == 105
    found = ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": ids}])
    assert len(found["Reservations"]) == 105
    assert "NextToken" not in found
    page = ec2.describe_instances(MaxResults=50)
    assert len(page["Reservations"]) == 50
    rest = ec2.describe_instances(MaxResults=1000, NextToken=page["NextToken"])
    assert len(rest["Reservations"]) == 55


def test_remembered_instance_shows_whatever_is_done_to_it(ec2: Any) -> None:
    remembered_instances.install()
    node, other = _launch(ec2, 1, fleet="chat")[0], _launch(ec2, 1, fleet="chat")[0]

    def described(instance_id: str = node) -> Any:
        found = ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [instance_id]}])
        return found["Reservations"][0]["Instances"][0]

    first = described()
    assert described() == first
    assert described(other)["InstanceId"] == other
    backend = ec2_backends["123456789012"]["us-east-1"]
    # As Auto Scaling does it, without a call: a detached instance loses its group's tag.
    backend.delete_tags([node], {"fleet": "chat"})
    assert "Tags" not in described()
    ec2.create_tags(Resources=[node], Tags=[{"Key": "owner", "Value": "me"}])
    assert described()["Tags"] == [{"Key": "owner", "Value": "me"}]
    ec2.modify_instance_attribute(InstanceId=node, SourceDestCheck={"Value": False})
    assert (first["SourceDestCheck"], described()["SourceDestCheck"]) == (True, False)
    backend.get_instance(node).terminate()
    assert described()["State"]["Name"] == "terminated"
    assert described(other)["State"]["Name"] == "running"


def _table(dynamodb: Any) -> None:
    keys = ("incident", "HASH"), ("entry", "RANGE")
    index = ("fleet", "HASH"), ("entry", "RANGE")

    def schema(*pairs: tuple[str, str]) -> list[dict[str, str]]:
        return [{"AttributeName": name, "KeyType": kind} for name, kind in pairs]

    dynamodb.create_table(
        TableName="incidents",
        KeySchema=schema(*keys),
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("incident", "entry", "fleet")
        ],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_fleet",
                "KeySchema": schema(*index),
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )
    for node in ("i-2", "i-1", "i-3"):
        for entry in ("c", "a", "b"):
            item = {"incident": node, "entry": entry, "fleet": "chat" if node != "i-3" else "other"}
            dynamodb.put_item(TableName="incidents", Item={key: {"S": value} for key, value in item.items()})


def _queried(dynamodb: Any) -> list[Any]:
    def query(condition: str, values: dict[str, str], **more: Any) -> Any:
        answer = dynamodb.query(
            TableName="incidents",
            KeyConditionExpression=condition,
            ExpressionAttributeValues={key: {"S": value} for key, value in values.items()},
            **more,
        )
        return answer["Items"], answer["Count"], answer.get("LastEvaluatedKey")

    return [
        query("incident = :i", {":i": "i-1"}),
        query("incident = :i", {":i": "i-1"}, ScanIndexForward=False),
        query("incident = :i AND entry > :e", {":i": "i-2", ":e": "a"}, ConsistentRead=True),
        query("incident = :i", {":i": "i-2"}, Limit=2),
        query("incident = :i", {":i": "nobody"}),
        query("fleet = :f AND entry >= :e", {":f": "chat", ":e": "b"}, IndexName="by_fleet"),
        dynamodb.scan(TableName="incidents")["Items"],
    ]


def test_tables_are_queried_as_before(client: Callable[[str], Any]) -> None:
    dynamodb = client("dynamodb")
    _table(dynamodb)
    before = _queried(dynamodb)
    fast_stores.install()
    assert _queried(dynamodb) == before


def test_messages_are_counted_received_and_hidden_as_before(client: Callable[[str], Any]) -> None:
    fast_stores.install()
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="notices", Attributes={"VisibilityTimeout": "30"})["QueueUrl"]
    for number in range(5):
        sqs.send_message(QueueUrl=url, MessageBody=str(number), DelaySeconds=60 if number == 4 else 0)

    def counts() -> list[str]:
        names = [
            "ApproximateNumberOfMessages",
            *(f"ApproximateNumberOfMessages{n}" for n in ("NotVisible", "Delayed")),
        ]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return [found[name] for name in names]

    assert counts() == ["4", "0", "1"]
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=3)["Messages"]
    assert [message["Body"] for message in received] == ["0", "1", "2"]
    assert counts() == ["1", "3", "1"]
    first, second, _ = (message["ReceiptHandle"] for message in received)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=first, VisibilityTimeout=0)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=second)
    assert counts() == ["2", "1", "1"]
    again = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert [message["Body"] for message in again] == ["0", "3"]


def test_message_older_than_the_queue_keeps_it_is_not_received(client: Callable[[str], Any]) -> None:
    fast_stores.install()
    sqs = client("sqs")
    url = sqs.create_queue(QueueName="old", Attributes={"MessageRetentionPeriod": "60"})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="old")
    queue = sqs_backends["123456789012"]["us-east-1"].queues["old"]
    queue._messages[0].sent_timestamp -= 61_000
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
