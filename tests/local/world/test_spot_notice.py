"""An interruption: what the node and the bus are told, and the end when the notice has run out."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from local_aws.control_client import ControlError

EVENTS = Path(__file__).resolve().parents[2] / "data" / "events"
NOTICE_SECONDS = 3.0


@pytest.fixture(scope="module")
def fleet(make_fleet: Callable[..., Any], eventually: Callable[..., Any]) -> Any:
    made = make_fleet(2)
    eventually(lambda: len(made.healthy()) == 2)
    return made


def imds(fleet: Any, instance_id: str, path: str) -> tuple[int, str]:
    root = fleet.root(instance_id)
    settings = (root / "etc/spot-failover/local.env").read_text()
    endpoint = settings.split('SPOT_FAILOVER_IMDS_ENDPOINT="')[1].split('"')[0]
    ask = urllib.request.Request(
        f"{endpoint}/latest/api/token",
        method="PUT",
        headers={"X-aws-ec2-metadata-token-ttl-seconds": "60"},
    )
    token = urllib.request.urlopen(ask).read().decode()
    read = urllib.request.Request(
        f"{endpoint}/latest/meta-data/{path}", headers={"X-aws-ec2-metadata-token": token}
    )
    try:
        with urllib.request.urlopen(read) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as err:
        return err.code, ""


def test_metadata_without_a_token_is_refused(fleet: Any) -> None:
    settings = (fleet.root(fleet.nodes()[0].instance_id) / "etc/spot-failover/local.env").read_text()
    endpoint = settings.split('SPOT_FAILOVER_IMDS_ENDPOINT="')[1].split('"')[0]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{endpoint}/latest/meta-data/instance-id")


def test_metadata_names_the_instance_and_gives_its_roles_credentials(fleet: Any) -> None:
    instance_id = fleet.nodes()[0].instance_id
    assert imds(fleet, instance_id, "instance-id") == (200, instance_id)
    assert imds(fleet, instance_id, "instance-life-cycle") == (200, "spot")
    assert imds(fleet, instance_id, "spot/instance-action")[0] == 404
    assert imds(fleet, instance_id, "iam/security-credentials/")[1] == "stub-node"
    status, text = imds(fleet, instance_id, "iam/security-credentials/stub-node")
    assert status == 200
    assert json.loads(text)["AccessKeyId"].startswith("ASIA")


def test_interrupted_node_is_told_and_is_gone_when_the_notice_has_run_out(
    fleet: Any, eventually: Callable[..., Any]
) -> None:
    eventually(lambda: len(fleet.healthy()) == 2)
    node = fleet.healthy()[0]
    noticed_at = fleet.aws.control.interrupt(node.instance_id, notice_seconds=NOTICE_SECONDS)
    action = json.loads(imds(fleet, node.instance_id, "spot/instance-action")[1])
    assert action["action"] == "terminate"
    ends_at = datetime.fromisoformat(action["time"]).timestamp()
    assert abs(ends_at - (noticed_at + NOTICE_SECONDS)) <= 1.0

    sample = json.loads((EVENTS / "ec2_spot_interruption_warning.json").read_text())
    (event,) = [
        e
        for e in fleet.events("EC2 Spot Instance Interruption Warning")
        if e["detail"]["instance-id"] == node.instance_id
    ]
    assert event.keys() == sample.keys()
    assert event["detail"] == {"instance-id": node.instance_id, "instance-action": "terminate"}
    assert abs(datetime.fromisoformat(event["time"]).timestamp() - noticed_at) <= 1.0

    assert fleet.node(node.instance_id).state == "running"
    eventually(lambda: fleet.node(node.instance_id).state == "terminated", seconds=NOTICE_SECONDS + 2)
    assert time.time() - noticed_at >= NOTICE_SECONDS
    eventually(lambda: fleet.node(node.instance_id).pids == [], seconds=3)
    eventually(lambda: len(fleet.healthy()) == 2, seconds=30)


def test_withheld_notices_do_not_show(fleet: Any, eventually: Callable[..., Any]) -> None:
    eventually(lambda: len(fleet.healthy()) == 2)
    quiet = fleet.healthy()[0].instance_id
    fleet.aws.control.interrupt(quiet, notice_seconds=2, imds=False, event=False)
    assert imds(fleet, quiet, "spot/instance-action")[0] == 404
    warned = [e["detail"]["instance-id"] for e in fleet.events("EC2 Spot Instance Interruption Warning")]
    assert quiet not in warned
    eventually(lambda: fleet.node(quiet).state == "terminated")


def test_instances_that_ec2_would_not_interrupt_are_refused(fleet: Any) -> None:
    with pytest.raises(ControlError, match="no instance"):
        fleet.aws.control.interrupt("i-0123456789abcdef0")
    on_demand = fleet.client("ec2").run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
    with pytest.raises(ControlError, match="on demand"):
        fleet.aws.control.interrupt(on_demand["Instances"][0]["InstanceId"])


def test_launches_fail_while_there_are_no_spot_instances(fleet: Any, eventually: Callable[..., Any]) -> None:
    control = fleet.aws.control
    control.set_spot_capacity(available=False)
    before = len(fleet.events("EC2 Instance Launch Unsuccessful"))
    fleet.set_desired(3)
    eventually(lambda: len(fleet.events("EC2 Instance Launch Unsuccessful")) > before)
    sample = json.loads((EVENTS / "asg_launch_unsuccessful.json").read_text())
    event = fleet.events("EC2 Instance Launch Unsuccessful")[-1]
    assert event["detail"].keys() - {"Description"} == sample["detail"].keys()
    assert "UnfulfillableCapacity" in event["detail"]["StatusMessage"]
    control.set_spot_capacity(available=True)
    eventually(lambda: len(fleet.healthy()) == 3, seconds=30)
