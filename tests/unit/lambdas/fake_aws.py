"""An AWS small enough to hold in a test: queues and tables of moto's, and our own fakes of the rest.

Every call is journalled, checked against botocore's own model, and can be made to fail.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from spot_failover.departures import Action, Parts, parts
from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Incident
from spot_failover.notice_function import NoticeFunction
from spot_failover.outcomes import Outcome, Step
from spot_failover.settings import TrackSettings

from tests.unit.lambdas.fake_balancing import FakeLoadBalancing
from tests.unit.lambdas.fake_services import (
    Client,
    FakeAutoScaling,
    FakeEc2,
    FakeSystemsManager,
    Journal,
    client,
)

TAG = "spot-failover:fleet"
NOTICED = datetime(2026, 11, 23, 13, 38, tzinfo=UTC)


class Aws:
    """An account with queues, a table, and fleets that tests add."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.instances = FakeEc2()
        self.groups = FakeAutoScaling()
        self.load_balancing = FakeLoadBalancing()
        self.systems_manager = FakeSystemsManager()
        self.ec2: Any = Client("ec2", self.journal, self.instances)
        self.sqs: Any = Client("sqs", self.journal)
        self.dynamodb: Any = Client("dynamodb", self.journal)
        self.autoscaling: Any = Client("autoscaling", self.journal, self.groups)
        self.elbv2: Any = Client("elbv2", self.journal, self.load_balancing)
        self.tagging: Any = Client("resourcegroupstaggingapi", self.journal, self.load_balancing)
        self.ssm: Any = Client("ssm", self.journal, self.systems_manager)
        self.queues = client("sqs")
        self.settings = self._settings()
        self.now = NOTICED + timedelta(seconds=1)
        self.table: Any = IncidentTable(client("dynamodb"), table="incidents", ttl=timedelta(days=90))

    def _settings(self) -> TrackSettings:
        create_incidents_table()
        urls = [self.queues.create_queue(QueueName=name)["QueueUrl"] for name in ("queue", "dead")]
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
        self.load_balancing.add(arn, ids, fleet=name)
        self.groups.members |= dict.fromkeys(ids, (group, "InService"))
        self.systems_manager.managed |= set(ids)
        return ids

    def add_instances(self, count: int, *, tags: list[dict[str, str]] | None = None) -> list[str]:
        """Add instances that belong to no group and return their ids."""
        return self.instances.add(count, tags or [])

    def incident(self, instance_id: str) -> Incident | None:
        incident: Incident | None = self.table.incident(instance_id)
        return incident

    def outcome(self, step: Step, instance_id: str) -> Outcome | None:
        incident = self.incident(instance_id)
        return incident.outcomes.get(step) if incident else None

    def notice_function(self, step: Step, action: Action, *, parts: Parts = parts) -> NoticeFunction:
        """Return the function around an action, over this account."""
        return NoticeFunction(
            step,
            action,
            settings=self.settings,
            ec2=self.ec2,
            sqs=self.sqs,
            dynamodb=self.dynamodb,
            parts=parts,
            clock=self.clock,
        )

    def send(self, *bodies: object) -> None:
        """Queue messages: texts as they are, anything else as JSON."""
        for body in bodies:
            text = body if isinstance(body, str) else json.dumps(body)
            self.queues.send_message(QueueUrl=self.settings.queue_url, MessageBody=text)

    def deliver(self, function: Any, *, receive_count: int | None = None) -> list[str]:
        """Do once what the event source mapping does, up to ten messages; return the failed ones' bodies."""
        url = self.settings.queue_url
        answer = self.queues.receive_message(
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
                self.queues.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
            else:  # time flies: tests do not wait for the backoff
                self.queues.change_message_visibility(
                    QueueUrl=url, ReceiptHandle=one["ReceiptHandle"], VisibilityTimeout=0
                )
        return [one["Body"] for one in messages if one["MessageId"] in failed]

    def waiting(self) -> int:
        """Return how many messages the queue still holds."""
        answer = self.queues.get_queue_attributes(QueueUrl=self.settings.queue_url, AttributeNames=["All"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    def dead_letters(self) -> list[tuple[str, str]]:
        """Return body and reason of each dead letter."""
        answer = self.queues.receive_message(
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
    """Create the table as the template declares it: keys, and the indexes by fleet and of what is open."""
    client("dynamodb").create_table(
        TableName="incidents",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"}
            for name in ("incident", "entry", "fleet", "open_incident")
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
            },
            {
                "IndexName": "open",
                "KeySchema": [{"AttributeName": "open_incident", "KeyType": "HASH"}],
                "Projection": {
                    "ProjectionType": "INCLUDE",
                    "NonKeyAttributes": ["fleet", "noticed_at", "deadline"],
                },
            },
        ],
    )


def sample_event(name: str) -> dict[str, Any]:
    """Read one of AWS's own sample events."""
    path = Path(__file__).parents[2] / "data" / "events" / f"{name}.json"
    event: dict[str, Any] = json.loads(path.read_text())
    return event
