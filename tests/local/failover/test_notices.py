"""Notices of every kind reach the deployed control plane; each does what it should, once."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from spot_failover.outcomes import Outcome, Step

from tests.local.failover.deployed_fleet import DeployedFleet

NOTICE_FUNCTIONS = ("deregister_target", "drain_node", "request_replacement")


def _launches(fleet: DeployedFleet, since: float) -> int:
    return sum(entry["kind"] == "node_started" and entry["at"] >= since for entry in fleet.control.timeline())


def _functions_run(fleet: DeployedFleet) -> int:
    return sum(entry["kind"] == "function_invoked" for entry in fleet.control.timeline())


def _messages(fleet: DeployedFleet, queue: str) -> list[dict[str, Any]]:
    answer = fleet.aws.client("sqs").receive_message(
        QueueUrl=fleet.queue_url(queue),
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        VisibilityTimeout=0,
    )
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages


def _settled(fleet: DeployedFleet, *, functions_more_than: int, seconds: float = 20.0) -> None:
    """Wait until the notice functions have run for what was sent, and all queues are empty."""
    sqs = fleet.aws.client("sqs")
    urls = [fleet.queue_url(name) for name in NOTICE_FUNCTIONS]
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        waiting = [
            sqs.get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"] for url in urls
        ]
        idle = all(set(attributes.values()) == {"0"} for attributes in waiting)
        if idle and _functions_run(fleet) >= functions_more_than + 3:
            return
        time.sleep(0.1)
    raise AssertionError(f"messages were still under way after {seconds:g} s: {waiting}")


def test_an_interruption_is_followed_to_its_end(fleet: DeployedFleet) -> None:
    node = fleet.whole()[0]
    fleet.control.interrupt(node.instance_id, notice_seconds=60)
    incident = fleet.incident_with(
        node.instance_id,
        "deregistered_at",
        "drain_requested_at",
        "replacement_requested_at",
        "drained_at",
        "replacement_in_service_at",
        "boot_phases",
    )
    assert incident.outcomes == {
        Step.DEREGISTER: Outcome.DEREGISTERED
        if incident.outcomes[Step.DEREGISTER] is Outcome.DEREGISTERED
        # the detach takes the node out of its target groups, too, and may come first
        else Outcome.NOT_REGISTERED,
        Step.DRAIN_COMMAND: Outcome.COMMANDED,
        Step.REPLACEMENT_REQUEST: Outcome.DETACHED,
        Step.DRAIN: Outcome.DRAINED,
        Step.REPLACEMENT: Outcome.IN_SERVICE,
        Step.BOOT: Outcome.BOOTED,
    }
    assert incident.recovery_parts
    assert incident.recovery_seconds == pytest.approx(sum(incident.recovery_parts.values()), abs=1)
    assert incident.cut_requests == 0
    assert incident.drained_at
    assert incident.drained_at < incident.deadline


def test_repeated_and_late_copies_of_a_notice_change_nothing(fleet: DeployedFleet) -> None:
    node = fleet.whole()[0]
    began = time.time()
    for _ in range(3):
        fleet.notice(node.instance_id)
    fleet.incident_with(node.instance_id, "replacement_requested_at", "drain_requested_at")
    before = _functions_run(fleet)
    fleet.notice(node.instance_id)
    fleet.notice(node.instance_id)
    _settled(fleet, functions_more_than=before)
    fleet.whole()
    incident = fleet.incident_with(node.instance_id, "replacement_in_service_at", "drained_at")
    drains = [entry for entry in incident.entries if entry.step is Step.DRAIN]
    assert len({entry.detail["started_at"] for entry in drains}) == 1, "the node drained once"
    assert _launches(fleet, began) == 1
    detached = [entry for entry in incident.entries if entry.outcome is Outcome.DETACHED]
    assert len(detached) == 1


def test_a_foreign_instance_is_left_alone(fleet: DeployedFleet) -> None:
    fleet.whole()
    ec2 = fleet.aws.client("ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    answer = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro")
    foreign = answer["Instances"][0]["InstanceId"]
    before, calls_before = _functions_run(fleet), len(fleet.control.calls())
    fleet.notice(foreign)
    _settled(fleet, functions_more_than=before)
    made = {
        call["action"]
        for call in fleet.control.calls()[calls_before:]
        if call["by"] == "api" and call["role"] in [fleet.role_of(name) for name in NOTICE_FUNCTIONS]
    }
    assert made == {"ec2:DescribeInstances"}
    assert fleet.incident(foreign) is None
    state = ec2.describe_instances(InstanceIds=[foreign])["Reservations"][0]["Instances"][0]["State"]["Name"]
    assert state == "running"


def test_a_malformed_message_is_dead_lettered_with_its_reason_and_blocks_nothing_beside_it(
    fleet: DeployedFleet,
) -> None:
    node = fleet.whole()[0]
    mark = uuid.uuid4().hex
    good: dict[str, Any] = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "EC2 Spot Instance Interruption Warning",
        "source": "aws.ec2",
        "account": "123456789012",
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": "us-east-1",
        "resources": [f"arn:aws:ec2:us-east-1a:instance/{node.instance_id}"],
        "detail": {"instance-id": node.instance_id, "instance-action": "terminate"},
    }
    bad = {**good, "detail": {**good["detail"], "instance-id": "not an id", "mark": mark}}
    bodies = [json.dumps(bad), "no json at all " + mark, json.dumps(good)]
    fleet.aws.client("sqs").send_message_batch(
        QueueUrl=fleet.queue_url("request_replacement"),
        Entries=[{"Id": str(number), "MessageBody": body} for number, body in enumerate(bodies)],
    )
    fleet.incident_with(node.instance_id, "replacement_requested_at", seconds=15)
    dead = [m for m in _messages(fleet, "request_replacement-dead-letters") if mark in m["Body"]]
    reasons = {m["MessageAttributes"]["reason"]["StringValue"] for m in dead}
    assert len(dead) == 2
    assert any("instance-id" in reason for reason in reasons), reasons
    logged = json.dumps([entry["json"] for entry in fleet.control.function_log("request_replacement")])
    assert all(reason.removeprefix("malformed: ")[:40] in logged for reason in reasons)


def test_a_throttled_call_is_made_again_within_seconds(fleet: DeployedFleet) -> None:
    node = fleet.whole()[0]
    # More refusals than the client's own retries take, so that the message itself has to come back.
    fleet.control.inject_fault("autoscaling:DetachInstances", "Throttling", count=6)
    began = time.time()
    fleet.notice(node.instance_id)
    incident = fleet.incident_with(node.instance_id, "replacement_requested_at", seconds=30)
    fleet.control.clear_faults()
    assert incident.replacement_requested_at
    assert incident.replacement_requested_at.timestamp() - began < 15
    assert Outcome.RETRYING in {entry.outcome for entry in incident.entries}


def test_a_notice_past_its_deadline_is_recorded_as_missed_and_dropped(fleet: DeployedFleet) -> None:
    node = fleet.whole()[0]
    before = _functions_run(fleet)
    late = datetime.now(UTC) - timedelta(minutes=10)
    fleet.notice(node.instance_id, time=late.timestamp())
    _settled(fleet, functions_more_than=before)
    incident = fleet.incident(node.instance_id)
    assert incident is not None
    # A sweep may have closed it by now.
    asked = (Step.DEREGISTER, Step.DRAIN_COMMAND, Step.REPLACEMENT_REQUEST)
    assert {incident.outcomes.get(step) for step in asked} == {Outcome.MISSED}
    assert node.instance_id in {each.instance_id for each in fleet.in_service()}
