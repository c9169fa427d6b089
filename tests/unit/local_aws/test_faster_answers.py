"""What is answered faster is answered the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from local_aws.endpoint import fast_answers
from local_aws.nodes import instance_index

NODES = 30


@pytest.fixture
def ec2(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield boto3.client("ec2", region_name="us-east-1")


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
    # What is launched from now on is found by the index.
    more = [_launch(ec2, 2, fleet="chat")[0] for _ in range(8)]
    by_index = [_answers(ec2, more)[number] for number in (1, 4, 8)]
    assert [each["InstanceId"] for r in by_index[1]["Reservations"] for each in r["Instances"]] == more[1::2]
    assert by_index[2]["Tags"] == [
        {"Key": "fleet", "ResourceId": more[0], "ResourceType": "instance", "Value": "chat"}
    ]
