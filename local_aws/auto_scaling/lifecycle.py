"""How a member of a group moves from one lifecycle state to the next, and what the world is told about it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from moto.autoscaling.models import autoscaling_backends

from local_aws.auto_scaling import events as group_events
from local_aws.auto_scaling.events import Event
from local_aws.auto_scaling.launches import GROUP_NAME_TAG
from local_aws.auto_scaling.members import LAUNCHING, TERMINATING, HookWait, Lifecycle, Member, instance_arn
from local_aws.load_balancing.balancers import LoadBalancing
from local_aws.world import World

# DetachInstances is answered before its activity has deregistered the instance. AWS does not say how much
# earlier; late enough here that what was decided before it sees it undone.
DEREGISTERS_AFTER_SECONDS = 0.5


class GroupLifecycle:
    """The members of all groups and their steps. Everything runs under the world's lock."""

    def __init__(
        self, world: World, balancing: LoadBalancing, booted: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._world = world
        self._booted = booted
        self._balancing = balancing
        self._members: dict[str, Member] = {}
        self.activities: list[dict[str, Any]] = []
        """Scaling activities as DescribeScalingActivities lists them, newest first."""

    @property
    def backend(self) -> Any:
        """moto's backend."""
        return autoscaling_backends[self._world.account_id][self._world.region]

    def member(self, instance_id: str | None) -> Member | None:
        """Return a member of any group."""
        return self._members.get(instance_id or "")

    def members(self, group: Any) -> list[Member]:
        """Return a group's members in the order of their launch, also those that moto's API attached."""
        for record in group.instance_states:
            if record.instance.id not in self._members:
                cause = "attached in response to a user request"
                self._members[record.instance.id] = Member(record, group, cause)
        return [self._members[record.instance.id] for record in group.instance_states]

    def add(self, record: Any, group: Any, cause: str) -> Member:
        """Take in an instance that was just launched."""
        member = Member(record, group, cause)
        self._members[member.instance_id] = member
        self._world.timeline.record(
            "lifecycle",
            instance_id=member.instance_id,
            group=group.name,
            before=None,
            state=member.state.value,
            instance_type=record.instance_type,
            spot=record.instance.lifecycle == "spot",
        )
        arn = instance_arn(group.region, group.account_id, member.instance_id)
        for state in ("pending", "running"):
            change = group_events.instance_state_change(arn, instance_id=member.instance_id, state=state)
            self._emit(change)
        # At once: a node that is up before anybody looks at its group again must find its hook waiting.
        self._begin_wait(member, LAUNCHING, Lifecycle.PENDING_WAIT)
        return member

    def advance(self, member: Member) -> None:
        """Move a member as far as it can go by itself."""
        match member.state:
            case Lifecycle.PENDING:
                if not self._begin_wait(member, LAUNCHING, Lifecycle.PENDING_WAIT):
                    self._enter_service(member)
            case Lifecycle.TERMINATING:
                drained = self._balancing.targets.drained(member.instance_id) or not member.running
                if drained and not (
                    member.running and self._begin_wait(member, TERMINATING, Lifecycle.TERMINATING_WAIT)
                ):
                    self._finish_termination(member)
            case Lifecycle.DETACHING:
                self._advance_detachment(member)
            case Lifecycle.PENDING_WAIT if self._booted(member.instance_id):
                self.end_wait(member, "CONTINUE")
            case Lifecycle.PENDING_WAIT | Lifecycle.TERMINATING_WAIT:
                # Also for an instance that is gone: a group checks the health of what is in service only.
                if member.wait is not None and time.time() >= member.wait.ends_at:
                    self.end_wait(member, str(member.wait.hook.default_result))
            case _:
                pass

    def _begin_wait(self, member: Member, transition: str, state: Lifecycle) -> bool:
        hooks = [
            hook
            for hook in self.backend.describe_lifecycle_hooks(member.group.name)
            if hook.lifecycle_transition == transition
        ]
        if not hooks:
            return False
        hook, now = hooks[0], time.time()
        member.wait = HookWait(hook, transition, str(uuid.uuid4()), now + hook.heartbeat_timeout, now)
        self._set(member, state)
        self._emit(
            group_events.lifecycle_action(
                member.scaling(),
                hook=hook.name,
                transition=transition,
                token=member.wait.token,
                metadata=getattr(hook, "notification_metadata", None),
            )
        )
        return True

    def end_wait(self, member: Member, result: str) -> None:
        """End a hook's wait with CONTINUE or ABANDON."""
        assert member.wait is not None
        transition, member.wait = member.wait.transition, None
        if transition == TERMINATING:
            self._set(member, Lifecycle.TERMINATING_PROCEED)
            self._finish_termination(member)
        elif result == "CONTINUE":
            self._set(member, Lifecycle.PENDING_PROCEED)
            self._enter_service(member)
        else:
            self.abandon_launch(
                member, "Instance failed to complete user's Lifecycle Action: it was abandoned."
            )

    def _enter_service(self, member: Member) -> None:
        member.in_service_at = time.time()
        self._set(member, Lifecycle.IN_SERVICE)
        self.register_targets(member)
        self._emit(group_events.launch_successful(member.scaling(), at=member.in_service_at))
        self._note_activity(member, "Launching a new EC2 instance", "Successful")

    def register_targets(self, member: Member) -> None:
        """Register a member with its group's target groups."""
        if not suspended(member.group, "AddToLoadBalancer") and member.running:
            for arn in member.group.target_group_arns:
                self._balancing.register(arn, member.instance_id)

    def deregister_targets(self, member: Member) -> None:
        """Start to drain a member in its group's target groups."""
        for arn in member.group.target_group_arns:
            self._balancing.deregister(arn, member.instance_id)

    def abandon_launch(self, member: Member, message: str) -> None:
        """End an instance that never came into service."""
        self._emit(group_events.launch_unsuccessful(member.scaling(), at=time.time(), message=message))
        self._note_activity(member, "Launching a new EC2 instance", "Cancelled")
        member.begin(f"At {stamp()} an instance was taken out of service: {message}")
        self.begin_termination(member, member.cause)

    def begin_termination(self, member: Member, cause: str) -> None:
        """Take a member out of service; it is ended when its requests have ended."""
        member.begin(cause)
        member.wait = None
        self._set(member, Lifecycle.TERMINATING)
        self.deregister_targets(member)

    def _finish_termination(self, member: Member) -> None:
        if member.record.instance.state != "terminated":
            self.backend.ec2_backend.terminate_instances([member.instance_id])
        self._set(member, Lifecycle.TERMINATED)
        self._emit(group_events.terminate_successful(member.scaling(), at=time.time()))
        self._note_activity(member, "Terminating EC2 instance", "Successful")
        self._drop(member)

    def begin_detachment(self, member: Member) -> None:
        """Take a member out of its group; it leaves the group's view when its requests have ended."""
        member.begin(
            f"At {stamp()} instance {member.instance_id} was detached in response to a user request."
        )
        self._set(member, Lifecycle.DETACHING)
        member.deregisters_at = time.time() + DEREGISTERS_AFTER_SECONDS

    def _advance_detachment(self, member: Member) -> None:
        if member.deregisters_at is not None and time.time() >= member.deregisters_at:
            member.deregisters_at = None
            self.deregister_targets(member)
        drained = member.deregisters_at is None and self._balancing.targets.drained(member.instance_id)
        if drained or not member.running:
            self._finish_detachment(member)

    def _finish_detachment(self, member: Member) -> None:
        self.backend.ec2_backend.delete_tags([member.instance_id], {GROUP_NAME_TAG: member.group.name})
        self._set(member, Lifecycle.DETACHED)
        self._emit(group_events.detach_successful(member.scaling(), at=time.time()))
        self._note_activity(member, "Detaching EC2 instance", "Successful")
        self._drop(member)

    def _drop(self, member: Member) -> None:
        member.group.instance_states = [r for r in member.group.instance_states if r is not member.record]
        self._members.pop(member.instance_id, None)

    def set_state(self, member: Member, state: Lifecycle) -> None:
        """Move a member to a state that only an API call leads to (Standby and back)."""
        self._set(member, state)

    def _set(self, member: Member, state: Lifecycle) -> None:
        before, member.record.lifecycle_state = member.state, state.value
        self._world.timeline.record(
            "lifecycle",
            instance_id=member.instance_id,
            group=member.group.name,
            before=before.value,
            state=state.value,
        )

    def _emit(self, event: Event) -> None:
        emit(self._world, event)

    def _note_activity(self, member: Member, what: str, status: str) -> None:
        self.activities.insert(
            0,
            {
                "ActivityId": member.activity_id,
                "AutoScalingGroupName": member.group.name,
                "AutoScalingGroupARN": member.group.arn,
                "Description": f"{what}: {member.instance_id}",
                "Cause": member.cause,
                "StartTime": member.started_at,
                "EndTime": time.time(),
                "StatusCode": status,
                "Progress": 100,
            },
        )


def emit(world: World, event: Event, *, at: float | None = None) -> None:
    """Put an event on the bus."""
    world.emit(
        source=event.source,
        detail_type=event.detail_type,
        detail=event.detail,
        resources=event.resources,
        at=at,
    )


def suspended(group: Any, process: str) -> bool:
    """Say whether a group's process is suspended."""
    return process in {each["ProcessName"] for each in group.suspended_processes}


def stamp() -> str:
    """Return the time as scaling activities print it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
