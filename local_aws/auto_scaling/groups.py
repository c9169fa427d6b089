"""Auto Scaling groups that act: launch to desired, wait for hooks, notice dead members, replace, detach.

Everything runs under the world's lock, in short steps: `reconcile` looks at each group several times a second
and moves each member one state further, as far as it can go.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from typing import Any

from local_aws.auto_scaling import events as group_events
from local_aws.auto_scaling.events import Scaling
from local_aws.auto_scaling.launches import Launcher, LaunchError
from local_aws.auto_scaling.lifecycle import GroupLifecycle, emit, stamp, suspended
from local_aws.auto_scaling.members import COMING, Lifecycle, Member
from local_aws.load_balancing.targets import Targets
from local_aws.world import World

log = logging.getLogger(__name__)

_STEP_SECONDS = 0.1
# For how many times as long as it took nobody looks again.
_REST = 9.0
# From an instance's failure until its group acts on it. On AWS this is up to some minutes; the shorter delay
# only keeps tests short, and nothing here may rely on it.
NOTICES_SICK_AFTER_SECONDS = 5.0
_LAUNCH_RETRY_SECONDS = 5.0


class AutoScaling:
    """All groups of the account and region."""

    def __init__(self, world: World, launcher: Launcher, lifecycle: GroupLifecycle, targets: Targets) -> None:
        self._world = world
        self._launcher = launcher
        self.lifecycle = lifecycle
        self._targets = targets
        self._no_launch_before: dict[str, float] = {}
        self._wake = threading.Event()
        self._stopped = False

    def run(self) -> None:
        """Reconcile until `stop`."""
        took = 0.0
        while not self._stopped:
            # A look at a thousand members takes a while, under the lock that every call needs.
            self._wake.wait(max(_STEP_SECONDS, _REST * took))
            self._wake.clear()
            with self._world.lock:
                began = time.monotonic()  # how long others kept the lock is no reason to rest
                for group in list(self.lifecycle.backend.autoscaling_groups.values()):
                    if self._stopped:
                        return
                    try:
                        self.reconcile(group)
                    except Exception:
                        log.exception("group %s", group.name)
            took = time.monotonic() - began

    def stop(self) -> None:
        """End `run`."""
        self._stopped = True
        self._wake.set()

    def wake(self) -> None:
        """Let `run` look at the groups at once."""
        self._wake.set()

    def reconcile(self, group: Any) -> None:
        """Move a group towards what it should be; hold the world's lock."""
        for step in (self.lifecycle.advance, self._look_after):
            for member in self.lifecycle.members(group):
                step(member)
        self._fit_capacity(group)

    def _look_after(self, member: Member) -> None:
        if member.state is not Lifecycle.IN_SERVICE:
            return
        if not suspended(member.group, "HealthCheck"):
            self._judge(member)
        if member.record.health_status == "Healthy" or suspended(member.group, "ReplaceUnhealthy"):
            return
        check = "a user health-check" if member.reported_sick else "an EC2 or ELB health check"
        cause = f"At {stamp()} an instance was taken out of service in response to {check}."
        if not member.running or not _launches_before_terminating(member.group):
            self.lifecycle.begin_termination(member, cause)
            return
        replacement = self.lifecycle.member(member.replacement)
        if replacement is None:
            launched = self._launch(member.group, "an unhealthy instance needing to be replaced")
            member.replacement = launched.instance_id if launched else None
        elif replacement.state is Lifecycle.IN_SERVICE:
            self.lifecycle.begin_termination(member, cause)

    def _judge(self, member: Member) -> None:
        now, group = time.time(), member.group
        in_grace = now < (member.in_service_at or 0.0) + float(group.health_check_grace_period or 0)
        sick = not member.running or (
            "ELB" in group.health_check_type
            and not in_grace
            and self._targets.is_unhealthy(member.instance_id, group.target_group_arns)
        )
        if not sick:
            member.sick_since = None
        elif member.sick_since is None:
            member.sick_since = now
        elif now - member.sick_since >= NOTICES_SICK_AFTER_SECONDS:
            member.record.health_status = "Unhealthy"

    def _fit_capacity(self, group: Any) -> None:
        counted = [
            m
            for m in self.lifecycle.members(group)
            if (m.state in COMING or m.state is Lifecycle.IN_SERVICE)
            and self.lifecycle.member(m.replacement) is None
        ]
        missing = int(group.desired_capacity or 0) - len(counted)
        for _ in range(missing):
            if self._launch(group, "a difference between desired and actual capacity") is None:
                return
        if missing < 0 and not suspended(group, "Terminate"):
            removable = [m for m in counted if not m.record.protected_from_scale_in]
            for member in removable[:-missing]:
                cause = f"At {stamp()} instance {member.instance_id} was selected to shrink the group."
                self.lifecycle.begin_termination(member, cause)

    def _launch(self, group: Any, reason: str) -> Member | None:
        now = time.monotonic()
        if suspended(group, "Launch") or now < self._no_launch_before.get(group.name, 0.0):
            return None
        cause = f"At {stamp()} an instance was started in response to {reason}."
        try:
            record = self._launcher.launch(group)
        except Exception as err:
            if not isinstance(err, LaunchError):
                log.exception("launch in %s", group.name)
            self._no_launch_before[group.name] = now + _LAUNCH_RETRY_SECONDS
            failed = _failed_launch(group, cause)
            emit(self._world, group_events.launch_unsuccessful(failed, at=time.time(), message=str(err)))
            return None
        return self.lifecycle.add(record, group, cause)


def _failed_launch(group: Any, cause: str) -> Scaling:
    subnets = (group.vpc_zone_identifier or "").split(",")
    return Scaling(
        group_name=group.name,
        group_arn=group.arn,
        instance_id=None,
        instance_arn=None,
        zone=str(group.availability_zones[0]),
        subnet_id=subnets[0],
        activity_id=str(uuid.uuid4()),
        request_id=str(uuid.uuid4()),
        cause=cause,
        started_at=time.time(),
    )


def _launches_before_terminating(group: Any) -> bool:
    policy = getattr(group, "instance_maintenance_policy", None) or {}
    return int(policy.get("MinHealthyPercentage", 0)) >= 100
