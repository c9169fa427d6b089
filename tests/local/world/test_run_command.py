"""Run Command: what is refused, how a document runs on the node, and what is told about it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

EVENTS = Path(__file__).resolve().parents[2] / "data" / "events"
DOCUMENT = {
    "schemaVersion": "2.2",
    "parameters": {
        "Word": {"type": "String", "allowedPattern": "^[a-z]+$", "default": "hello"},
        "Status": {"type": "String", "allowedValues": ["0", "3"], "default": "0"},
        "Seconds": {"type": "String", "default": "0"},
    },
    "mainSteps": [
        {
            "action": "aws:runShellScript",
            "name": "say",
            "precondition": {"StringEquals": ["platformType", "Linux"]},
            "inputs": {
                "timeoutSeconds": "3",
                "runCommand": [
                    "echo '{{ Word }}' on $AWS_SSM_INSTANCE_ID",
                    "command -v systemctl",
                    "date +%s.%N",
                    "sleep {{Seconds}}",
                    "echo problem >&2",
                    "exit {{ Status }}",
                ],
            },
        }
    ],
}


@pytest.fixture(scope="module")
def fleet(make_fleet: Callable[..., Any], eventually: Callable[..., Any]) -> Any:
    made = make_fleet(1)
    made.client("ssm").create_document(Name="Say", DocumentType="Command", Content=json.dumps(DOCUMENT))
    eventually(made.healthy)
    eventually(lambda: managed(made))
    return made


def managed(fleet: Any) -> list[str]:
    listed = fleet.client("ssm").describe_instance_information()["InstanceInformationList"]
    mine = {node.instance_id for node in fleet.nodes()}
    return [each["InstanceId"] for each in listed if each["InstanceId"] in mine]


def send(fleet: Any, instance_id: str | None = None, **parameters: str) -> str:
    sent = fleet.client("ssm").send_command(
        DocumentName="Say",
        InstanceIds=[instance_id or fleet.nodes()[0].instance_id],
        Parameters={name: [value] for name, value in parameters.items()},
    )
    return str(sent["Command"]["CommandId"])


def result(fleet: Any, command_id: str, eventually: Callable[..., Any]) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = fleet.client("ssm").get_command_invocation(
            CommandId=command_id, InstanceId=fleet.nodes()[0].instance_id
        )
        return None if found["Status"] in ("Pending", "InProgress") else found

    answer: dict[str, Any] = eventually(ended)
    return answer


def test_document_runs_with_the_nodes_tools_and_its_output_is_kept(
    fleet: Any, eventually: Callable[..., Any]
) -> None:
    node = fleet.nodes()[0]
    answer = result(fleet, send(fleet, Word="goodbye"), eventually)
    assert (answer["Status"], answer["ResponseCode"]) == ("Success", 0)
    said, tool, _ = answer["StandardOutputContent"].splitlines()
    assert said == f"goodbye on {node.instance_id}"
    assert tool.startswith(str(fleet.aws.state_dir / "nodes" / node.instance_id))
    assert answer["StandardErrorContent"] == "problem\n"


def test_shell_script_of_aws_runs_what_an_operator_types(fleet: Any, eventually: Callable[..., Any]) -> None:
    sent = fleet.client("ssm").send_command(
        DocumentName="AWS-RunShellScript",
        InstanceIds=[fleet.nodes()[0].instance_id],
        Parameters={"commands": ["echo one", "systemctl is-active stub"]},
    )
    command_id, instance_id = sent["Command"]["CommandId"], fleet.nodes()[0].instance_id

    def ended() -> Any:
        answer = fleet.client("ssm").get_command_invocation(CommandId=command_id, InstanceId=instance_id)
        return answer if answer["Status"] not in ("Pending", "InProgress") else None

    answer = eventually(ended)
    assert (answer["Status"], answer["StandardOutputContent"]) == ("Success", "one\nactive\n")


def test_what_the_runbook_lets_an_operator_type_reaches_the_node(fleet: Any) -> None:
    runbook = (Path(__file__).resolve().parents[3] / "docs/runbooks/node-not-ready.md").read_text()
    (typed,) = re.findall(r"```\n(node=.*?)```", runbook, re.S)
    script = f"{typed}\nnode={fleet.nodes()[0].instance_id}\non_node systemctl is-active stub"
    tools = str(Path(sys.prefix) / "bin")
    environment = {**fleet.aws.environment, "PATH": f"{tools}:{fleet.aws.environment['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["active"], done.stderr


def test_failing_and_overlong_commands_say_so(fleet: Any, eventually: Callable[..., Any]) -> None:
    failed = result(fleet, send(fleet, Status="3"), eventually)
    assert (failed["Status"], failed["ResponseCode"]) == ("Failed", 3)
    late = result(fleet, send(fleet, Seconds="60"), eventually)
    assert (late["Status"], late["StatusDetails"]) == ("TimedOut", "Execution Timed Out")


def test_commands_of_a_node_run_one_after_another(fleet: Any, eventually: Callable[..., Any]) -> None:
    first, second = send(fleet, Seconds="1"), send(fleet)
    times = [
        float(result(fleet, each, eventually)["StandardOutputContent"].splitlines()[2])
        for each in (first, second)
    ]
    assert times[1] - times[0] >= 1.0


def test_cancelled_command_is_ended(fleet: Any, eventually: Callable[..., Any]) -> None:
    command_id = send(fleet, Seconds="2.5")
    fleet.client("ssm").cancel_command(CommandId=command_id)
    assert result(fleet, command_id, eventually)["Status"] == "Cancelled"


def test_status_events_have_the_shape_of_the_documented_sample(
    fleet: Any, eventually: Callable[..., Any]
) -> None:
    sample = json.loads((EVENTS / "ssm_command_invocation_status_change.json").read_text())
    command_id = send(fleet)
    result(fleet, command_id, eventually)

    def told() -> list[dict[str, Any]]:
        events = fleet.events("EC2 Command Invocation Status-change Notification")
        return [e for e in events if e["detail"]["command-id"] == command_id]

    eventually(lambda: len(told()) == 2)
    assert [e["detail"]["status"] for e in told()] == ["InProgress", "Success"]
    for event in told():
        assert event.keys() == sample.keys()
        assert event["detail"].keys() == sample["detail"].keys()
        assert event["resources"][0].endswith(f":instance/{fleet.nodes()[0].instance_id}")


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"Parameters": {"Word": ["Hello; rm -rf /"]}}, "InvalidParameters"),
        ({"Parameters": {"Status": ["1"]}}, "InvalidParameters"),
        ({"Parameters": {"Other": ["x"]}}, "InvalidParameters"),
        ({"InstanceIds": ["i-0123456789abcdef0"]}, "InvalidInstanceId"),
        ({"DocumentName": "Nothing"}, "InvalidDocument"),
    ],
)
def test_what_systems_manager_refuses_is_refused(fleet: Any, request_: dict[str, Any], error: str) -> None:
    sent = {"DocumentName": "Say", "InstanceIds": [fleet.nodes()[0].instance_id], **request_}
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        fleet.client("ssm").send_command(**sent)
    assert caught.value.response["Error"]["Code"] == error


def test_instance_without_an_agent_is_not_managed(fleet: Any) -> None:
    bare = fleet.client("ec2").run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
    instance_id = bare["Instances"][0]["InstanceId"]
    assert instance_id not in managed(fleet)
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidInstanceId"):
        send(fleet, instance_id)


def test_command_whose_node_dies_is_never_reported_as_done(
    fleet: Any, eventually: Callable[..., Any]
) -> None:
    node = eventually(lambda: managed(fleet))[0]
    command_id = send(fleet, node, Seconds="60")

    def told() -> list[dict[str, Any]]:
        entries = fleet.aws.control.timeline()
        return [e for e in entries if e["kind"] == "command" and e["command_id"] == command_id]

    eventually(lambda: told()[-1]["status"] == "InProgress")
    fleet.client("ec2").terminate_instances(InstanceIds=[node])
    eventually(lambda: told()[-1]["status"] == "TimedOut")
    assert [e["status"] for e in told()] == ["Pending", "InProgress", "TimedOut"]
    assert told()[2]["at"] - told()[1]["at"] >= 2.5, "nobody is left to report earlier"
    with pytest.raises(botocore.exceptions.ClientError, match="InvalidInstanceId"):
        send(fleet, node)
