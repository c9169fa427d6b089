"""Which events reach which function: AWS's own samples, and events that only look like them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from moto.events.models import EventPattern

from tests.infra.templates import Template

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "events"
NOTICE_FUNCTIONS = {"deregister_target", "drain_node", "request_replacement"}


def sample(name: str, /, **changes: Any) -> dict[str, Any]:
    """Return a sample event, changed; `detail__document_name` stands for detail["document-name"]."""
    event: dict[str, Any] = copy.deepcopy(json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8")))
    for key, value in changes.items():
        place, name = (event["detail"], key[8:]) if key.startswith("detail__") else (event, key)
        place[name.replace("_", "-")] = value
    return event


@pytest.fixture(scope="module")
def functions_for(control_plane: Template) -> Any:
    """Return the functions that an event reaches: rule, target, queue, event source mapping, function."""
    names_by_queue = {
        control_plane.text(mapping["EventSourceArn"]): control_plane.body["Resources"][
            mapping["FunctionName"]["Ref"]
        ]["Properties"]["Handler"].split(".")[0]
        for mapping in control_plane.resources("AWS::Lambda::EventSourceMapping").values()
    }

    def functions(event: dict[str, Any]) -> set[str]:
        reached: list[str] = []
        for rule in control_plane.resources("AWS::Events::Rule").values():
            assert rule["State"] == "ENABLED"
            assert "EventBusName" not in rule, "AWS's own events come on the default bus"
            if EventPattern.load(json.dumps(rule["EventPattern"])).matches_event(event):
                reached += [names_by_queue[control_plane.text(target["Arn"])] for target in rule["Targets"]]
        assert len(reached) == len(set(reached)), f"twice to one function: {reached}"
        return set(reached)

    return functions


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_an_interruption_notice_reaches_the_three_functions_side_by_side(
    functions_for: Any, action: str
) -> None:
    event = sample("ec2_spot_interruption_warning", detail__instance_action=action)
    assert functions_for(event) == NOTICE_FUNCTIONS


@pytest.mark.parametrize("name", ["asg_launch_successful", "asg_launch_unsuccessful"])
def test_a_launch_reaches_the_tracker(functions_for: Any, name: str) -> None:
    assert functions_for(sample(name)) == {"track_incident"}


@pytest.mark.parametrize("status", ["Success", "Failed", "TimedOut", "Cancelled"])
def test_a_finished_drain_command_reaches_the_tracker(functions_for: Any, status: str) -> None:
    event = sample(
        "ssm_command_invocation_status_change",
        detail__document_name="SpotFailover-DrainNode",
        detail__status=status,
    )
    assert functions_for(event) == {"track_incident"}


@pytest.mark.parametrize("name", ["node_ready", "node_boot_failed", "node_engine_failed", "node_drained"])
def test_a_nodes_report_reaches_the_tracker(functions_for: Any, name: str) -> None:
    assert functions_for(sample(name)) == {"track_incident"}


NEAR_MISSES = {
    "a report in another's name": sample("node_ready", source="com.example.node"),
    "a report in the name of AWS": sample("node_ready", source="aws.spot-failover.node"),
    "a report of another kind": sample("node_ready", detail_type="Spot Failover Node Bored"),
    "a report in another case": sample("node_ready", detail_type="Spot Failover Node ready"),
    "a rebalance recommendation": sample(
        "ec2_spot_interruption_warning", detail_type="EC2 Instance Rebalance Recommendation"
    ),
    "a state change": sample(
        "ec2_spot_interruption_warning", detail_type="EC2 Instance State-change Notification"
    ),
    "a fulfilled request": sample(
        "ec2_spot_interruption_warning", detail_type="EC2 Spot Instance Request Fulfillment"
    ),
    "somebody's own notice": sample("ec2_spot_interruption_warning", source="com.example.ec2"),
    "a notice in another case": sample(
        "ec2_spot_interruption_warning", detail_type="EC2 Spot Instance Interruption warning"
    ),
    "a termination": sample("asg_launch_successful", detail_type="EC2 Instance Terminate Successful"),
    "a launch hook": sample("asg_launch_successful", detail_type="EC2 Instance-launch Lifecycle Action"),
    "somebody's own launch": sample("asg_launch_successful", source="com.example.autoscaling"),
    "another document's command": sample("ssm_command_invocation_status_change"),
    "a drain that still runs": sample(
        "ssm_command_invocation_status_change",
        detail__document_name="SpotFailover-DrainNode",
        detail__status="InProgress",
    ),
    "a command as a whole": sample(
        "ssm_command_invocation_status_change",
        detail_type="EC2 Command Status-change Notification",
        detail__document_name="SpotFailover-DrainNode",
    ),
}


@pytest.mark.parametrize("event", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_a_near_miss_reaches_no_function(functions_for: Any, event: dict[str, Any]) -> None:
    assert functions_for(event) == set()


def test_a_notice_without_an_instance_still_comes_through_to_be_reported(functions_for: Any) -> None:
    """A rule that dropped it would leave nobody to say that it was malformed."""
    event = sample("ec2_spot_interruption_warning")
    del event["detail"]["instance-id"]
    assert functions_for(event) == NOTICE_FUNCTIONS
