"""The deployed sweeper: nodes that outlive their notice end, incidents close, and its role allows no more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from spot_failover.incidents import Entry
from spot_failover.outcomes import Outcome, Step
from spot_failover.timestamps import format_milliseconds

from infra.sweeper import SCHEDULE_NAME
from tests.local.failover.deployed_fleet import FLEET, NOTICE_SECONDS, DeployedFleet, wait_for
from tests.local.failover.function_role import DENIALS, FunctionRole

FUNCTION = "spot-failover-sweep_incidents"
MADE_UP = "i-0ab00000000000001"
WHOLE = {
    Step.DEREGISTER: Outcome.DEREGISTERED,
    Step.DRAIN_COMMAND: Outcome.COMMANDED,
    Step.REPLACEMENT_REQUEST: Outcome.DETACHED,
    Step.DRAIN: Outcome.DRAINED,
    Step.REPLACEMENT: Outcome.IN_SERVICE,
}


@pytest.fixture(scope="module")
def swept(fleet: DeployedFleet) -> Iterator[DeployedFleet]:
    """Let the schedule run when it is asked to, and events come at most a second late."""
    fleet.control.schedules(paused=True)
    functions = fleet.aws.client("lambda")
    variables = functions.get_function_configuration(FunctionName=FUNCTION)["Environment"]["Variables"]
    hurried = {**variables, "GRACE_SECONDS": "1"}
    functions.update_function_configuration(FunctionName=FUNCTION, Environment={"Variables": hurried})
    yield fleet
    functions.update_function_configuration(FunctionName=FUNCTION, Environment={"Variables": variables})
    fleet.control.schedules()


def sweep(fleet: DeployedFleet) -> dict[str, Any]:
    return fleet.control.run_schedule(SCHEDULE_NAME)


def tell(fleet: DeployedFleet, node: str, outcomes: dict[Step, Outcome], *, noticed_ago: float) -> None:
    """Write an incident whose notice came so many seconds ago."""
    noticed_at = datetime.now(UTC) - timedelta(seconds=noticed_ago)
    launched = {"instance_id": f"{node[:-1]}f", "launched_at": format_milliseconds(noticed_at)}
    for step, outcome in outcomes.items():
        fleet.record(
            Entry(
                incident=node,
                fleet=FLEET,
                at=noticed_at + timedelta(seconds=2),
                step=step,
                outcome=outcome,
                noticed_at=noticed_at,
                deadline=noticed_at + timedelta(seconds=NOTICE_SECONDS),
                detail=launched if step is Step.REPLACEMENT else {},
            )
        )


def instance_state(fleet: DeployedFleet, instance_id: str) -> str:
    answer = fleet.aws.client("ec2").describe_instances(InstanceIds=[instance_id])
    return str(answer["Reservations"][0]["Instances"][0]["State"]["Name"])


def instance_in_no_group(fleet: DeployedFleet) -> str:
    """Launch an instance that carries the fleet's tag, as a detached node does."""
    ec2 = fleet.aws.client("ec2")
    answer = ec2.run_instances(
        ImageId=ec2.describe_images()["Images"][0]["ImageId"],
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.micro",
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "spot-failover:fleet", "Value": FLEET}]}
        ],
    )
    return str(answer["Instances"][0]["InstanceId"])


def test_a_node_that_was_stopped_and_not_ended_is_ended_and_its_incident_closed(swept: DeployedFleet) -> None:
    node = swept.whole()[0]
    left = 20
    swept.notice(node.instance_id, time=time.time() + left - NOTICE_SECONDS)
    swept.control.interrupt(node.instance_id, notice_seconds=left, imds=False, event=False, action="stop")
    swept.incident_with(node.instance_id, "drained_at", "replacement_in_service_at", "boot_phases")
    sweep(swept)
    assert instance_state(swept, node.instance_id) == "running", "its notice still runs"
    wait_for("stopped node", lambda: instance_state(swept, node.instance_id) == "stopped", seconds=40)

    def ended() -> bool:
        assert sweep(swept)["error"] is None
        return instance_state(swept, node.instance_id) == "terminated"

    wait_for("node that is ended", ended, seconds=10)
    assert sweep(swept)["error"] is None
    incident = swept.incident_with(node.instance_id, "node_ended_at", "closed_at", seconds=5)
    assert incident.outcomes[Step.CLOSE] is Outcome.CLOSED
    swept.whole()


def test_nobody_elses_instance_is_ended(swept: DeployedFleet) -> None:
    untold = instance_in_no_group(swept)
    somebody_elses = instance_in_no_group(swept)
    tell(
        swept,
        somebody_elses,
        {**WHOLE, Step.REPLACEMENT_REQUEST: Outcome.LEFT_TO_GROUP},
        noticed_ago=3600,
    )
    assert sweep(swept)["error"] is None
    assert [instance_state(swept, one) for one in (untold, somebody_elses)] == ["running", "running"]
    swept.aws.client("ec2").terminate_instances(InstanceIds=[untold, somebody_elses])


def test_the_sweepers_role_lets_it_do_what_it_does_and_each_permission_is_needed(
    swept: DeployedFleet,
) -> None:
    role = FunctionRole(swept, "sweep_incidents")
    tried: set[str] = set()

    def refused_without(*actions: str) -> None:
        for action in actions:
            role.take(action)
            result = sweep(swept)
            role.restore()
            message = str(json.loads(result["payload"]).get("errorMessage"))
            assert action in message, result
            assert any(code in message for code in DENIALS), result
            tried.add(action)

    tell(swept, MADE_UP, WHOLE, noticed_ago=3600)
    refused_without(
        "dynamodb:Scan", "dynamodb:Query", "dynamodb:PutItem", "dynamodb:UpdateItem", "ec2:DescribeInstances"
    )
    orphan = instance_in_no_group(swept)
    tell(swept, orphan, WHOLE, noticed_ago=3600)
    refused_without("autoscaling:DescribeAutoScalingInstances", "ec2:TerminateInstances")
    assert instance_state(swept, orphan) == "running"
    # Who was refused is left alone for a while: the request that is granted is another node's.
    node, other = (each.instance_id for each in swept.whole()[:2])
    tell(swept, node, {Step.DEREGISTER: Outcome.DEREGISTERED}, noticed_ago=40)
    refused_without("autoscaling:DescribeAutoScalingGroups", "autoscaling:DetachInstances")
    logging = {"logs:CreateLogStream", "logs:PutLogEvents"}
    assert role.granted() == tried | logging

    tell(swept, other, {Step.DEREGISTER: Outcome.DEREGISTERED}, noticed_ago=30)
    done = sweep(swept)
    assert done["error"] is None
    assert instance_state(swept, orphan) == "terminated"
    incidents = [swept.incident(each) for each in (node, other)]
    requests = [one and one.outcomes[Step.REPLACEMENT_REQUEST] for one in incidents]
    assert requests == [Outcome.FAILED, Outcome.DETACHED]
    ended = swept.incident(orphan)
    assert ended
    assert ended.outcomes[Step.NODE_END] is Outcome.ENDED
    swept.aws.client("ec2").terminate_instances(InstanceIds=[node, other])
    swept.whole()


def test_the_schedule_runs_the_sweeper_by_the_clock(swept: DeployedFleet) -> None:
    def runs() -> int:
        return sum(entry["kind"] == "schedule_run" for entry in swept.control.timeline())

    before = runs()
    swept.control.schedules(time_factor=0.02)
    wait_for("runs of the schedule", lambda: runs() >= before + 2, seconds=20)
    swept.control.schedules(paused=True)
    assert not [one for one in swept.control.timeline() if one["kind"] == "schedule_problem"]
