"""An AWS small enough to hold in a test: moto where it behaves like AWS, fakes of ours where it does not.

The fakes keep to the API references: detaching is all or nothing, an unknown instance refuses a whole
command, a missing target is no error. Every call is journalled, checked against botocore's own model, and
can be made to fail.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
from botocore.exceptions import ClientError
from botocore.validate import validate_parameters
from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Incident
from spot_failover.settings import TrackSettings

TAG = "spot-failover:fleet"
NOTICED = datetime(2026, 11, 23, 13, 38, tzinfo=UTC)


def client_error(operation: str, code: str, message: str = "injected", status: int = 400) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, operation)


@cache
def client(service: str) -> Any:
    """Return a client of moto's; making one takes longer than a test."""
    return boto3.client(service, region_name="us-east-1")


@dataclass
class Fault:
    code: str
    times: int
    when: Callable[[Mapping[str, Any]], bool]


@dataclass
class Journal:
    """All calls of all clients, and the faults they are to meet."""

    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)

    def fail(
        self,
        operation: str,
        code: str,
        *,
        times: int = 10**6,
        when: Callable[[Mapping[str, Any]], bool] = lambda _: True,
    ) -> None:
        self.faults.setdefault(operation, []).append(Fault(code, times, when))

    def enter(self, operation: str, parameters: dict[str, Any]) -> None:
        self.calls.append((operation, parameters))
        for fault in self.faults.get(operation, []):
            if fault.times and fault.when(parameters):
                fault.times -= 1
                raise client_error(operation, fault.code)

    def of(self, operation: str) -> list[dict[str, Any]]:
        return [parameters for name, parameters in self.calls if name == operation]


class Client:
    """A client, moto's or a fake of ours: journals each call by its Python name, checks its parameters."""

    def __init__(self, service: str, journal: Journal, backend: object | None = None) -> None:
        self._real = client(service)
        self._backend = backend or self._real
        self._journal = journal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**parameters: Any) -> Any:
            api_name = self._real.meta.method_to_api_mapping[name]
            shape = self._real.meta.service_model.operation_model(api_name).input_shape
            validate_parameters(parameters, shape)
            self._journal.enter(name, parameters)
            return getattr(self._backend, name)(**parameters)

        return call

    def get_paginator(self, name: str) -> Any:
        def paginate(**parameters: Any) -> list[Any]:
            return [getattr(self, name)(**parameters)]

        return SimpleNamespace(paginate=paginate)


@dataclass
class FakeAutoScaling:
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: dict[str, tuple[str, str]] = field(default_factory=dict)
    launches: int = 0

    def describe_auto_scaling_groups(self, **selection: Any) -> Any:
        names = selection.get("AutoScalingGroupNames")
        chosen = [group for name, group in self.groups.items() if names is None or name in names]
        for one in selection.get("Filters", []):
            key = one["Name"].removeprefix("tag:")
            chosen = [
                group
                for group in chosen
                if any(tag["Key"] == key and tag["Value"] in one["Values"] for tag in group["Tags"])
            ]
        return {"AutoScalingGroups": chosen}

    def detach_instances(self, **parameters: Any) -> Any:
        group, ids = parameters["AutoScalingGroupName"], parameters["InstanceIds"]
        assert parameters["ShouldDecrementDesiredCapacity"] is False
        if any(self.members.get(key) not in {(group, "InService"), (group, "Standby")} for key in ids):
            raise client_error("DetachInstances", "ValidationError", "not part of the group or not InService")
        for key in ids:
            del self.members[key]
        self.launches += len(ids)
        return {"Activities": []}

    def describe_auto_scaling_instances(self, **parameters: Any) -> Any:
        return {
            "AutoScalingInstances": [
                {"InstanceId": key, "AutoScalingGroupName": group, "LifecycleState": state}
                for key, (group, state) in self.members.items()
                if key in parameters["InstanceIds"]
            ]
        }


@dataclass
class FakeLoadBalancing:
    registered: dict[str, set[str]] = field(default_factory=dict)  # by target group

    def deregister_targets(self, **parameters: Any) -> Any:
        self.registered[parameters["TargetGroupArn"]] -= {one["Id"] for one in parameters["Targets"]}
        return {}


@dataclass
class FakeSystemsManager:
    managed: set[str] = field(default_factory=set)
    outputs: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)  # by command and instance
    sent: int = 0

    def send_command(self, **parameters: Any) -> Any:
        if not set(parameters["InstanceIds"]) <= self.managed:
            raise client_error("SendCommand", "InvalidInstanceId", "Instances not in a valid state")
        self.sent += 1
        return {"Command": {"CommandId": f"00000000-0000-0000-0000-{self.sent:012d}"}}

    def get_command_invocation(self, **parameters: Any) -> Any:
        key = (parameters["CommandId"], parameters["InstanceId"])
        if key not in self.outputs:
            raise client_error("GetCommandInvocation", "InvocationDoesNotExist")
        return self.outputs[key]


class Aws:
    """An account with queues, a table, and fleets that tests add."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.groups = FakeAutoScaling()
        self.load_balancing = FakeLoadBalancing()
        self.systems_manager = FakeSystemsManager()
        self.ec2: Any = Client("ec2", self.journal)
        self.sqs: Any = Client("sqs", self.journal)
        self.dynamodb: Any = Client("dynamodb", self.journal)
        self.autoscaling: Any = Client("autoscaling", self.journal, self.groups)
        self.elbv2: Any = Client("elbv2", self.journal, self.load_balancing)
        self.ssm: Any = Client("ssm", self.journal, self.systems_manager)
        self._queues = client("sqs")
        self.settings = self._settings()
        self.now = NOTICED + timedelta(seconds=1)
        self.table: Any = IncidentTable(client("dynamodb"), table="incidents", ttl=timedelta(days=90))

    def _settings(self) -> TrackSettings:
        create_incidents_table()
        urls = [self._queues.create_queue(QueueName=name)["QueueUrl"] for name in ("queue", "dead")]
        return TrackSettings(
            fleet_tag_key=TAG,
            incidents_table="incidents",
            incident_ttl=timedelta(days=90),
            notice=timedelta(seconds=120),
            queue_url=urls[0],
            dead_letter_queue_url=urls[1],
            service="unit",
            metrics_namespace="SpotFailover",
            incidents_fleet_index="by_fleet",
        )

    def clock(self) -> datetime:
        return self.now

    def add_fleet(self, name: str, *, nodes: int, capacity_rebalance: bool = False) -> list[str]:
        """Add a fleet of nodes in service and return their instance ids."""
        tags = [{"Key": TAG, "Value": name}]
        arn = f"arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/{name}/0123456789abcdef"
        group = f"spot-failover-{name}"
        self.groups.groups[group] = {
            "AutoScalingGroupName": group,
            "Tags": tags,
            "TargetGroupARNs": [arn],
            "CapacityRebalance": capacity_rebalance,
        }
        ids = self.add_instances(nodes, tags=[*tags, {"Key": "aws:autoscaling:groupName", "Value": group}])
        self.load_balancing.registered[arn] = set(ids)
        self.groups.members |= dict.fromkeys(ids, (group, "InService"))
        self.systems_manager.managed |= set(ids)
        return ids

    def add_instances(self, count: int, *, tags: list[dict[str, str]] | None = None) -> list[str]:
        """Add instances that belong to no group and return their ids."""
        extra: Any = {"TagSpecifications": [{"ResourceType": "instance", "Tags": tags}]} if tags else {}
        answer = client("ec2").run_instances(ImageId="ami-12c6146b", MinCount=count, MaxCount=count, **extra)
        return [one["InstanceId"] for one in answer["Instances"]]

    def incident(self, instance_id: str) -> Incident | None:
        incident: Incident | None = self.table.incident(instance_id)
        return incident

    def send(self, *bodies: object) -> None:
        """Queue messages: texts as they are, anything else as JSON."""
        for body in bodies:
            text = body if isinstance(body, str) else json.dumps(body)
            self._queues.send_message(QueueUrl=self.settings.queue_url, MessageBody=text)

    def deliver(self, function: Any, *, receive_count: int | None = None) -> list[str]:
        """Do once what the event source mapping does, up to ten messages; return the failed ones' bodies."""
        url = self.settings.queue_url
        answer = self._queues.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["ApproximateReceiveCount"]
        )
        messages = answer.get("Messages", [])
        records = [
            {
                "messageId": one["MessageId"],
                "receiptHandle": one["ReceiptHandle"],
                "body": one["Body"],
                "attributes": {
                    **one["Attributes"],
                    **({"ApproximateReceiveCount": str(receive_count)} if receive_count else {}),
                },
                "eventSource": "aws:sqs",
            }
            for one in messages
        ]
        response = function.handle({"Records": records}, SimpleNamespace())
        failed = {one["itemIdentifier"] for one in response["batchItemFailures"]}
        for one in messages:
            if one["MessageId"] not in failed:
                self._queues.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
            else:  # time flies: tests do not wait for the backoff
                self._queues.change_message_visibility(
                    QueueUrl=url, ReceiptHandle=one["ReceiptHandle"], VisibilityTimeout=0
                )
        return [one["Body"] for one in messages if one["MessageId"] in failed]

    def waiting(self) -> int:
        """Return how many messages the queue still holds."""
        answer = self._queues.get_queue_attributes(QueueUrl=self.settings.queue_url, AttributeNames=["All"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def dead_letters(self) -> list[tuple[str, str]]:
        """Return body and reason of each dead letter."""
        answer = self._queues.receive_message(
            QueueUrl=self.settings.dead_letter_queue_url,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            VisibilityTimeout=0,
        )
        return [
            (one["Body"], one["MessageAttributes"]["reason"]["StringValue"])
            for one in answer.get("Messages", [])
        ]


def create_incidents_table() -> None:
    """Create the table as the template declares it: keys, and the index by fleet."""
    client("dynamodb").create_table(
        TableName="incidents",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("incident", "entry", "fleet")
        ],
        KeySchema=[
            {"AttributeName": "incident", "KeyType": "HASH"},
            {"AttributeName": "entry", "KeyType": "RANGE"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_fleet",
                "KeySchema": [
                    {"AttributeName": "fleet", "KeyType": "HASH"},
                    {"AttributeName": "entry", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
    )


def sample_event(name: str) -> dict[str, Any]:
    """Read one of AWS's own sample events."""
    path = Path(__file__).parents[2] / "data" / "events" / f"{name}.json"
    event: dict[str, Any] = json.loads(path.read_text())
    return event
