"""SetInstanceHealth: a member says, or somebody says of it, that it is not well.

After the EC2 Auto Scaling API reference, SetInstanceHealth, and the user guide, "Set up a custom health
check": the group replaces the member as it does one that failed its own checks.
"""

from __future__ import annotations

import time
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from local_aws.auto_scaling.groups import AutoScaling
from local_aws.auto_scaling.members import Member
from local_aws.moto_override import override

_STATUSES = ("Healthy", "Unhealthy")


def override_health(groups: AutoScaling) -> None:
    """Let SetInstanceHealth act on a group's member, with AWS's errors."""

    @override(AutoScalingResponse)
    def set_instance_health(self: Any) -> ActionResult:
        instance_id, status = self._get_param("InstanceId"), self._get_param("HealthStatus")
        if status not in _STATUSES:
            raise ValidationError(f"Valid instance health states are: [{', '.join(_STATUSES)}]")
        member = groups.lifecycle.member(instance_id)
        if member is None:
            raise ValidationError(
                f"Instance Id not found - No managed instance found for instance ID: {instance_id}"
            )
        respects_grace = self._get_param("ShouldRespectGracePeriod") not in (False, "false")
        if status == "Healthy" or not respects_grace or not in_grace(member, now=time.time()):
            set_health(member, status)
            groups.wake()
        return EmptyResult()


def in_grace(member: Member, *, now: float) -> bool:
    """Whether a member came into service so recently that its group looks over its health."""
    grace = float(member.group.health_check_grace_period or 0)
    return now < (member.in_service_at or now) + grace


def set_health(member: Member, status: str) -> None:
    """Take somebody's word on a member's health."""
    member.record.health_status = status
    member.reported_sick = status == "Unhealthy"
    if status == "Healthy":
        member.sick_since = None
        member.replacement = None
