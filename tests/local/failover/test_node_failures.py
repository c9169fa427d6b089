"""Nodes that fail by themselves, and what a fleet makes of it: unready, explained, recovered or replaced."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from typing import Any

from gpu_node_bootstrap.node_agent.boot import Phase
from local_aws.control_client import NodeView
from tests.local.failover.deployed_fleet import FLEET, DeployedFleet, wait_for

LOST = "NVRM: Xid (PCI:0000:31:00): 79, pid=4711, GPU has fallen off the bus."
LOG_GROUP = f"/spot-failover/nodes/{FLEET}"


def view(fleet: DeployedFleet, instance_id: str) -> NodeView:
    return next(node for node in fleet.control.nodes() if node.instance_id == instance_id)


def status(fleet: DeployedFleet, instance_id: str) -> dict[str, Any]:
    return dict(view(fleet, instance_id).status or {})


def log_of(fleet: DeployedFleet, instance_id: str) -> list[dict[str, Any]]:
    """Return what a node has sent to its fleet's log group."""
    logs = fleet.aws.client("logs")
    streams = logs.describe_log_streams(logGroupName=LOG_GROUP)["logStreams"]
    if instance_id not in {stream["logStreamName"] for stream in streams}:
        return []
    found = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=instance_id, startFromHead=True)
    return [json.loads(event["message"]) for event in found["events"]]


def test_an_engine_that_crashed_is_started_again_on_the_same_node(fleet: DeployedFleet) -> None:
    node = fleet.whole()[0]
    request = urllib.request.Request(
        f"http://{node.address}:8000/_fault",
        data=b'{"fault": "exit"}',
        headers={"Content-Type": "application/json"},
    )
    with contextlib.suppress(OSError):  # the engine ends before it answers
        urllib.request.urlopen(request, timeout=5).close()
    wait_for("recovering node", lambda: status(fleet, node.instance_id).get("state") == "recovering")
    again = wait_for(
        "node that is ready again",
        lambda: found if (found := status(fleet, node.instance_id)).get("state") == "ready" else None,
    )
    assert again["engine"]["restarts"] == 1
    assert again["replacement"]["result"] == "not_asked"


def test_a_node_that_lost_its_gpu_is_replaced_by_its_group(fleet: DeployedFleet) -> None:
    lost, other = fleet.whole()
    fleet.control.kernel_log(lost.instance_id, LOST)
    failed = wait_for(
        "failed node",
        lambda: found if (found := status(fleet, lost.instance_id)).get("state") == "failed" else None,
    )
    assert "Xid 79" in failed["reason"]
    wait_for(
        "end of the failed node", lambda: view(fleet, lost.instance_id).state == "terminated", seconds=90
    )
    ids = {node.instance_id for node in fleet.whole()}
    assert other.instance_id in ids
    assert lost.instance_id not in ids
    wait_for(
        "diagnosis", lambda: [e for e in log_of(fleet, lost.instance_id) if e.get("event") == "diagnosis"]
    )


def test_a_replacements_boot_and_the_steps_before_it_add_up_to_the_recovery(fleet: DeployedFleet) -> None:
    node = fleet.whole()[0]
    fleet.control.interrupt(node.instance_id, notice_seconds=60)
    incident = fleet.incident_with(node.instance_id, "replacement_in_service_at", "boot_phases", "drained_at")
    assert incident.recovery_seconds is not None
    parts = incident.recovery_parts
    assert parts is not None
    assert abs(sum(parts.values()) - incident.recovery_seconds) <= 1.0
    sequential = {Phase.KERNEL, Phase.USER_DATA, Phase.ENGINE, Phase.WARM_UP, Phase.IN_SERVICE}
    assert {phase.value for phase in sequential} <= parts.keys()


def test_a_boot_is_on_record_as_metrics_in_the_fleets_log_group(fleet: DeployedFleet) -> None:
    node = fleet.whole()[0]
    metrics = wait_for(
        "metrics of the boot",
        lambda: [e for e in log_of(fleet, node.instance_id) if "_aws" in e and "boot.seconds" in e],
    )[0]
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("SpotFailover", [["fleet"]])
    assert metrics["fleet"] == FLEET
    assert {metric["Name"] for metric in directive["Metrics"]} >= {
        f"boot.{phase.value}.seconds" for phase in Phase
    }


def test_a_node_drained_without_run_command_still_tells_the_incident(fleet: DeployedFleet) -> None:
    fleet.control.inject_fault(action="ssm:SendCommand", error="AccessDeniedException")
    try:
        node = fleet.whole()[0]
        fleet.control.interrupt(node.instance_id, notice_seconds=60)
        incident = fleet.incident_with(node.instance_id, "drained_at")
    finally:
        fleet.control.clear_faults()
    assert incident.cut_requests == 0
