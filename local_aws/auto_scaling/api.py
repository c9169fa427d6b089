"""Auto Scaling's API calls, where moto's answers differ from AWS's or are missing.

Errors and their texts: Auto Scaling API reference, DetachInstances, SetDesiredCapacity,
CompleteLifecycleAction.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import (
    AutoScalingBackend,
    DetachInstanceActivity,
    FakeAutoScalingGroup,
    TerminateInstanceActivity,
)
from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult, EmptyResult

from local_aws.auto_scaling.groups import AutoScaling
from local_aws.auto_scaling.health import override_health
from local_aws.auto_scaling.lifecycle import GroupLifecycle, stamp
from local_aws.auto_scaling.members import HookWait, Lifecycle, Member
from local_aws.cloudformation.seam import after_create
from local_aws.moto_override import extend, override, wrap

_MOST_DETACHED_AT_ONCE = 20
_RESULTS = ("CONTINUE", "ABANDON")


def apply_overrides(groups: AutoScaling) -> None:
    """Let moto's Auto Scaling API act on the groups, and keep what its CloudFormation drops."""
    _override_capacity(groups)
    _override_membership(groups)
    _add_lifecycle_actions(groups)
    override_health(groups)
    after_create("AWS::AutoScaling::AutoScalingGroup", _complete_group)


def find_group(backend: Any, name: str) -> Any:
    """Return a group by name. Raises ValidationError as AWS does."""
    group = backend.autoscaling_groups.get(name)
    if group is None:
        raise ValidationError("AutoScalingGroup name not found - null")
    return group


def _override_capacity(groups: AutoScaling) -> None:
    @override(FakeAutoScalingGroup)
    def set_desired_capacity(self: Any, new_capacity: int | None) -> None:
        # Also called while the group is being made; members follow by reconciliation.
        self.desired_capacity = self.min_size if new_capacity is None else new_capacity
        groups.wake()

    def checked(original: Any, backend: Any, group_name: str, desired_capacity: int) -> None:
        group = find_group(backend, group_name)
        check_bounds(desired_capacity, minimum=int(group.min_size), maximum=int(group.max_size))
        original(backend, group_name, desired_capacity)

    wrap(AutoScalingBackend, "set_desired_capacity", checked)

    @override(AutoScalingBackend)
    def delete_auto_scaling_group(self: Any, group_name: str) -> None:
        group = find_group(self, group_name)
        members = [record.instance.id for record in group.instance_states]
        del self.autoscaling_groups[group_name]
        if members:
            self.ec2_backend.terminate_instances(members)

    @override(AutoScalingResponse)
    def describe_scaling_activities(self: Any) -> ActionResult:
        name = self._get_param("AutoScalingGroupName")
        known = groups.lifecycle.activities
        chosen = [a for a in known if name is None or a["AutoScalingGroupName"] == name]
        return ActionResult({"Activities": [_with_times(activity) for activity in chosen]})


def check_bounds(desired: int, *, minimum: int, maximum: int) -> None:
    """Raise AWS's ValidationError for a desired capacity that its group's bounds do not admit."""
    if desired > maximum:
        raise ValidationError(
            f"New SetDesiredCapacity value {desired} is above max value {maximum} for the AutoScalingGroup."
        )
    if desired < minimum:
        raise ValidationError(
            f"New SetDesiredCapacity value {desired} is below min value {minimum} for the AutoScalingGroup."
        )


def _with_times(activity: Mapping[str, Any]) -> dict[str, Any]:
    times = {key: datetime.fromtimestamp(activity[key], UTC) for key in ("StartTime", "EndTime")}
    return {**activity, **times}


def detachable(instance_ids: list[str], group_name: str, states: Mapping[str, Lifecycle]) -> None:
    """Raise AWS's ValidationError unless all may be detached; `states` are those of the group's members."""
    if not 1 <= len(instance_ids) <= _MOST_DETACHED_AT_ONCE:
        raise ValidationError(
            f"You can specify 1 to {_MOST_DETACHED_AT_ONCE} instances, not {len(instance_ids)}"
        )
    for instance_id in instance_ids:
        state = states.get(instance_id)
        if state is None:
            raise ValidationError(
                f"The instance {instance_id} is not part of Auto Scaling group {group_name}."
            )
        if state not in (Lifecycle.IN_SERVICE, Lifecycle.STANDBY):
            raise ValidationError(f"The instance {instance_id} is not in InService or Standby.")


def _override_membership(groups: AutoScaling) -> None:
    lifecycle = groups.lifecycle

    @override(AutoScalingBackend)
    def detach_instances(
        self: Any, group_name: str, instance_ids: list[str], should_decrement: bool
    ) -> list[DetachInstanceActivity]:
        group = find_group(self, group_name)
        members = {m.instance_id: m for m in lifecycle.members(group)}
        detachable(instance_ids, group_name, {i: m.state for i, m in members.items()})
        if should_decrement:
            lower = group.desired_capacity - len(instance_ids)
            check_bounds(lower, minimum=int(group.min_size), maximum=int(group.max_size))
            group.desired_capacity = lower
        activities = [DetachInstanceActivity(members[i].record.instance) for i in instance_ids]
        for instance_id in instance_ids:
            lifecycle.begin_detachment(members[instance_id])
        # The replacements are launched before the call is answered: AWS launches them "in the same second".
        groups.reconcile(group)
        return activities

    @override(AutoScalingBackend)
    def terminate_instance(_: Any, instance_id: str, should_decrement: bool) -> TerminateInstanceActivity:
        member = lifecycle.member(instance_id)
        if member is None:
            raise ValidationError(
                f"Instance Id not found - No managed instance found for instance ID: {instance_id}"
            )
        before = member.group.desired_capacity
        if should_decrement:
            check_bounds(before - 1, minimum=int(member.group.min_size), maximum=int(member.group.max_size))
            member.group.desired_capacity = before - 1
        lifecycle.begin_termination(
            member,
            f"At {stamp()} instance {instance_id} was taken out of service in response to a user request.",
        )
        groups.wake()
        return TerminateInstanceActivity(member.record.instance, before)

    @override(AutoScalingBackend)
    def update_attached_target_groups(self: Any, group_name: str) -> None:
        """Register nothing: a member is registered when it comes into service, and never again by the way."""

    @override(AutoScalingBackend)
    def notify_terminate_instances(self: Any, instance_ids: list[str]) -> None:
        """Do nothing: a group finds out by its health checks that an instance has gone."""

    _override_attachments(lifecycle)
    _override_standby(groups)


def _override_attachments(lifecycle: GroupLifecycle) -> None:
    def attached(original: Any, backend: Any, group_name: str, instance_ids: list[str]) -> None:
        original(backend, group_name, instance_ids)
        for member in lifecycle.members(find_group(backend, group_name)):
            if member.instance_id in instance_ids:
                member.in_service_at = time.time()
                lifecycle.register_targets(member)

    def group_attached(original: Any, backend: Any, group_name: str, target_group_arns: list[str]) -> None:
        original(backend, group_name, target_group_arns)
        for member in lifecycle.members(find_group(backend, group_name)):
            if member.state is Lifecycle.IN_SERVICE:
                lifecycle.register_targets(member)

    wrap(AutoScalingBackend, "attach_instances", attached)
    wrap(AutoScalingBackend, "attach_load_balancer_target_groups", group_attached)


def _override_standby(groups: AutoScaling) -> None:
    lifecycle = groups.lifecycle

    def entered(
        original: Any, backend: Any, group_name: str, instance_ids: list[str], should_decrement: bool
    ) -> Any:
        members = {m.instance_id: m for m in lifecycle.members(find_group(backend, group_name))}
        for instance_id in instance_ids:
            if instance_id not in members or members[instance_id].state is not Lifecycle.IN_SERVICE:
                raise ValidationError(f"The instance {instance_id} is not in InService.")
        for instance_id in instance_ids:
            lifecycle.deregister_targets(members[instance_id])
        return original(backend, group_name, instance_ids, should_decrement)

    def left(original: Any, backend: Any, group_name: str, instance_ids: list[str]) -> Any:
        answer = original(backend, group_name, instance_ids)
        for member in lifecycle.members(find_group(backend, group_name)):
            if member.instance_id in instance_ids:
                lifecycle.register_targets(member)
        return answer

    wrap(AutoScalingBackend, "enter_standby_instances", entered)
    wrap(AutoScalingBackend, "exit_standby_instances", left)


def _add_lifecycle_actions(groups: AutoScaling) -> None:
    def waiting(response: Any) -> tuple[Member, HookWait]:
        return find_wait(
            groups.lifecycle,
            group_name=response._get_param("AutoScalingGroupName"),
            hook_name=response._get_param("LifecycleHookName"),
            instance_id=response._get_param("InstanceId"),
            token=response._get_param("LifecycleActionToken"),
        )

    @extend(AutoScalingResponse)
    def complete_lifecycle_action(self: Any) -> ActionResult:
        result = self._get_param("LifecycleActionResult")
        if result not in _RESULTS:
            raise ValidationError(
                f"Lifecycle action result must be one of {', '.join(_RESULTS)}, not {result}"
            )
        member, _ = waiting(self)
        groups.lifecycle.end_wait(member, result)
        groups.wake()
        return EmptyResult()

    @extend(AutoScalingResponse)
    def record_lifecycle_action_heartbeat(self: Any) -> ActionResult:
        _, wait = waiting(self)
        wait.extend(time.time())
        return EmptyResult()

    def put_hook(original: Any, response: Any) -> ActionResult:
        answer: ActionResult = original(response)
        hook = find_hook(groups.lifecycle.backend, response._get_param("AutoScalingGroupName"), response)
        hook.notification_metadata = response._get_param("NotificationMetadata")
        return answer

    def create_group(original: Any, response: Any) -> ActionResult:
        answer: ActionResult = original(response)
        name = response._get_param("AutoScalingGroupName")
        group = groups.lifecycle.backend.autoscaling_groups[name]
        names = ("LifecycleHookSpecificationList", "InstanceMaintenancePolicy", "CapacityRebalance")
        _complete_group(group, {key: response._get_param(key) for key in names})
        return answer

    wrap(AutoScalingResponse, "put_lifecycle_hook", put_hook)
    wrap(AutoScalingResponse, "create_auto_scaling_group", create_group)


def find_hook(backend: Any, group_name: str, response: Any) -> Any:
    """Return the hook that a PutLifecycleHook call just made."""
    return backend.describe_lifecycle_hooks(group_name, [response._get_param("LifecycleHookName")])[0]


def find_wait(
    lifecycle: GroupLifecycle, *, group_name: str, hook_name: str, instance_id: str | None, token: str | None
) -> tuple[Member, HookWait]:
    """Return the member that waits for a hook, by instance id or token. Raises AWS's ValidationError."""
    group = find_group(lifecycle.backend, group_name)
    for member in lifecycle.members(group):
        wait = member.wait
        asked = instance_id == member.instance_id or (instance_id is None and wait and token == wait.token)
        if asked and wait is not None and wait.hook.name == hook_name:
            return member, wait
    raise ValidationError(f"No active Lifecycle Action found with instance ID {instance_id}")


def _complete_group(group: Any, given: Mapping[str, Any]) -> None:
    """Keep what moto's model of a group drops: inline hooks, rebalancing, the maintenance policy."""
    for hook in given.get("LifecycleHookSpecificationList") or []:
        made = group.autoscaling_backend.create_lifecycle_hook(
            name=hook["LifecycleHookName"],
            as_name=group.name,
            transition=hook["LifecycleTransition"],
            timeout=int(hook["HeartbeatTimeout"]) if hook.get("HeartbeatTimeout") else None,
            result=hook.get("DefaultResult"),
        )
        made.notification_metadata = hook.get("NotificationMetadata")
    group.capacity_rebalance = str(given.get("CapacityRebalance")).lower() == "true"
    group.instance_maintenance_policy = given.get("InstanceMaintenancePolicy")
