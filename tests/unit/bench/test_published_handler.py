"""The baseline's function does what the published pattern does, in its order, and no more."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import boto3
import pytest

EVENT = {"detail": {"instance-id": "i-1", "instance-action": "terminate"}}
MODULE = "bench.baselines.published_handler.index"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """All clients as one mock, so that it knows the order of calls."""
    made = MagicMock()
    monkeypatch.setattr(boto3, "client", lambda name: getattr(made, name))
    return made


@pytest.fixture
def handler(aws: MagicMock, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return importlib.import_module(MODULE)


def describe(aws: MagicMock, **tags: str) -> None:
    pairs = [{"Key": key.replace("_", ":"), "Value": value} for key, value in tags.items()]
    aws.ec2.describe_instances.return_value = {"Reservations": [{"Instances": [{"Tags": pairs}]}]}


def names(aws: MagicMock) -> list[str]:
    return [call[0] for call in aws.mock_calls]


def test_notice_is_described_detached_and_commanded_in_this_order(aws: MagicMock, handler: Any) -> None:
    describe(aws, aws_autoscaling_groupName="chat")
    assert handler.handler(EVENT, None) == "handled"
    assert names(aws) == ["ec2.describe_instances", "autoscaling.detach_instances", "ssm.send_command"]
    assert aws.autoscaling.detach_instances.call_args.kwargs == {
        "InstanceIds": ["i-1"],
        "AutoScalingGroupName": "chat",
        "ShouldDecrementDesiredCapacity": False,
    }


def test_instance_of_no_group_is_left_alone(aws: MagicMock, handler: Any) -> None:
    describe(aws, Name="somebody's")
    assert handler.handler(EVENT, None) == "ignored"
    assert names(aws) == ["ec2.describe_instances"]


def test_refused_detach_fails_the_event_before_any_command(aws: MagicMock, handler: Any) -> None:
    describe(aws, aws_autoscaling_groupName="chat")
    aws.autoscaling.detach_instances.side_effect = RuntimeError("Rate exceeded")
    with pytest.raises(RuntimeError, match="Rate exceeded"):
        handler.handler(EVENT, None)
    assert "ssm.send_command" not in names(aws)
