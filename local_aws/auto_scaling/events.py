"""Auto Scaling's and EC2's events, in the shape of AWS's own samples (tests/data/events). Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Event:
    """An event as it is put on the bus, without the envelope that the bus adds."""

    source: str
    detail_type: str
    detail: Mapping[str, Any]
    resources: tuple[str, ...]


@dataclass(frozen=True)
class Scaling:
    """One launch, termination or detachment of an instance by its group. Times are epoch seconds."""

    group_name: str
    group_arn: str
    instance_id: str | None
    instance_arn: str | None
    zone: str
    subnet_id: str
    activity_id: str
    request_id: str
    cause: str
    started_at: float


def launch_successful(scaling: Scaling, *, at: float) -> Event:
    """The instance is in service."""
    detail = {
        "StatusCode": "InProgress",
        "Description": f"Launching a new EC2 instance: {scaling.instance_id}",
        **_detail(scaling, at=at),
        "Origin": "EC2",
        "Destination": "AutoScalingGroup",
    }
    return _scaling_event("EC2 Instance Launch Successful", scaling, detail)


def launch_unsuccessful(scaling: Scaling, *, at: float, message: str) -> Event:
    """No instance could be launched, or it never came into service."""
    detail = {
        "StatusCode": "Failed",
        "Description": "Launching a new EC2 instance",
        **_detail(scaling, at=at),
        "StatusMessage": message,
        "Origin": "EC2",
        "Destination": "AutoScalingGroup",
    }
    return _scaling_event("EC2 Instance Launch Unsuccessful", scaling, detail)


def terminate_successful(scaling: Scaling, *, at: float) -> Event:
    """The group has ended an instance, or found it ended."""
    detail = {
        "StatusCode": "InProgress",
        "Description": f"Terminating EC2 instance: {scaling.instance_id}",
        **_detail(scaling, at=at),
        "Origin": "AutoScalingGroup",
        "Destination": "EC2",
    }
    return _scaling_event("EC2 Instance Terminate Successful", scaling, detail)


def detach_successful(scaling: Scaling, *, at: float) -> Event:
    """The instance has left the group and runs on."""
    detail = {
        "StatusCode": "InProgress",
        "Description": f"Detaching EC2 instance: {scaling.instance_id}",
        **_detail(scaling, at=at),
        "Origin": "AutoScalingGroup",
        "Destination": "EC2",
    }
    return _scaling_event("EC2 Instance Detach Successful", scaling, detail)


def lifecycle_action(
    scaling: Scaling, *, hook: str, transition: str, token: str, metadata: str | None
) -> Event:
    """An instance waits for a hook; `transition` is autoscaling:EC2_INSTANCE_LAUNCHING or _TERMINATING."""
    launching = transition.endswith("LAUNCHING")
    detail = {
        "LifecycleActionToken": token,
        "AutoScalingGroupName": scaling.group_name,
        "LifecycleHookName": hook,
        "EC2InstanceId": scaling.instance_id,
        "LifecycleTransition": transition,
        "Origin": "EC2" if launching else "AutoScalingGroup",
        "Destination": "AutoScalingGroup" if launching else "EC2",
    }
    if metadata:
        detail["NotificationMetadata"] = metadata
    kind = "launch" if launching else "terminate"
    return Event("aws.autoscaling", f"EC2 Instance-{kind} Lifecycle Action", detail, (scaling.group_arn,))


def instance_state_change(instance_arn: str, *, instance_id: str, state: str) -> Event:
    """An instance is pending, running, stopping, stopped, shutting-down or terminated."""
    return Event(
        "aws.ec2",
        "EC2 Instance State-change Notification",
        {"instance-id": instance_id, "state": state},
        (instance_arn,),
    )


def interruption_warning(instance_arn: str, *, instance_id: str, action: str) -> Event:
    """EC2 will take a spot instance back."""
    return Event(
        "aws.ec2",
        "EC2 Spot Instance Interruption Warning",
        {"instance-id": instance_id, "instance-action": action},
        (instance_arn,),
    )


def _detail(scaling: Scaling, *, at: float) -> dict[str, Any]:
    return {
        "AutoScalingGroupName": scaling.group_name,
        "ActivityId": scaling.activity_id,
        "Details": {"Availability Zone": scaling.zone, "Subnet ID": scaling.subnet_id},
        "RequestId": scaling.request_id,
        "StatusMessage": "",
        "EndTime": _iso(at),
        "EC2InstanceId": scaling.instance_id or "",
        "StartTime": _iso(scaling.started_at),
        "Cause": scaling.cause,
    }


def _scaling_event(detail_type: str, scaling: Scaling, detail: Mapping[str, Any]) -> Event:
    resources = [arn for arn in (scaling.group_arn, scaling.instance_arn) if arn]
    return Event("aws.autoscaling", detail_type, detail, tuple(resources))


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
