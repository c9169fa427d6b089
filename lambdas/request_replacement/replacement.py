"""Detach without decrement: the group sees a gap and launches a node, while the old one drains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from spot_failover.batches import chunks
from spot_failover.departures import BUSY, ActionResult, Departure, Late, failure, never_late
from spot_failover.errors import AwsCallError, PermanentAwsError, aws_call
from spot_failover.fleets import Fleet, FleetDirectory, Group
from spot_failover.outcomes import Disposition, Outcome, disposition

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient

DETACH_LIMIT = 19  # instance ids of one DetachInstances, by its schema (its text says 20)
DETACH = "autoscaling:DetachInstances"
DETACHABLE = frozenset({"InService", "Standby"})
ENTERING_STANDBY = "EnteringStandby"  # detachable in a moment
GONE = frozenset({"Detaching", "Detached"})


@dataclass(frozen=True)
class Membership:
    """An instance as DescribeAutoScalingInstances shows it."""

    group_name: str
    lifecycle_state: str


def plan(
    departures: Sequence[Departure], fleets: Mapping[str, Fleet]
) -> tuple[dict[Group, list[str]], dict[str, ActionResult]]:
    """Return the instances to detach from each group, and the results where nothing is ours to do."""
    detach: dict[Group, list[str]] = defaultdict(list)
    settled: dict[str, ActionResult] = {}
    for departure in departures:
        node = departure.node
        group = fleets[node.fleet].group_of(node.group_name)
        if group is None:
            settled[node.instance_id] = ActionResult(Outcome.NO_GROUP)
        elif group.capacity_rebalance:
            settled[node.instance_id] = ActionResult(
                Outcome.LEFT_TO_CAPACITY_REBALANCING, {"group": group.name}
            )
        else:
            detach[group].append(node.instance_id)
    return dict(detach), settled


def judge(membership: Membership | None, group_name: str) -> ActionResult | None:
    """Return why an instance cannot be detached from the group, or None where it can."""
    if membership is None or membership.lifecycle_state in GONE:
        return ActionResult(Outcome.ALREADY_DETACHED, {"group": group_name})
    if membership.group_name == group_name and membership.lifecycle_state in DETACHABLE:
        return None
    if membership.group_name == group_name and membership.lifecycle_state == ENTERING_STANDBY:
        return ActionResult(Outcome.RETRYING, {"lifecycle_state": ENTERING_STANDBY})
    # Pending, Terminating, Warmed, or a member of another group: what a group has in hand it replaces itself.
    return ActionResult(
        Outcome.LEFT_TO_GROUP,
        {"group": membership.group_name, "lifecycle_state": membership.lifecycle_state},
    )


def perhaps_by_us(result: ActionResult) -> ActionResult:
    """Return the result of a request that was made before: who is out already may be so by our own call.

    The record or the answer of that got lost; the sweeper takes `action` for what it is, a call of ours.
    """
    if result.outcome is not Outcome.ALREADY_DETACHED:
        return result
    return replace(result, detail={**result.detail, "action": DETACH, "repeated": True})


class RequestReplacement:
    """Detaches departing nodes. An instance can leave its group only once, so a repeat launches nothing."""

    def __init__(self, autoscaling: AutoScalingClient, directory: FleetDirectory) -> None:
        self._autoscaling = autoscaling
        self._directory = directory

    def __call__(
        self, departures: Sequence[Departure], now: datetime, late: Late = never_late
    ) -> dict[str, ActionResult]:
        """Answer for each departure, by instance id."""
        names = {departure.node.fleet for departure in departures}
        try:
            fleets = self._directory.fleets(names, now=now)
        except AwsCallError as error:
            return {departure.node.instance_id: failure(error) for departure in departures}
        groups, results = plan(departures, fleets)
        begun = False
        for group, instance_ids in groups.items():
            for chunk in chunks(instance_ids, DETACH_LIMIT):
                if begun and late():
                    results |= dict.fromkeys(chunk, BUSY)
                    continue
                begun = True
                answers = self._detach(group.name, chunk)
                results |= answers
                if any(disposition(answer.outcome) is not Disposition.DONE for answer in answers.values()):
                    self._directory.forget(group.fleet)
        for departure in departures:
            if departure.repeated:
                key = departure.node.instance_id
                results[key] = perhaps_by_us(results[key])
        return results

    def _detach(self, group_name: str, instance_ids: Sequence[str]) -> dict[str, ActionResult]:
        try:
            return self._detach_call(group_name, instance_ids)
        except AwsCallError as error:
            if not _refuses_an_instance(error):
                return dict.fromkeys(instance_ids, failure(error))
            repeated = error.repeated
        try:
            memberships = self._memberships(instance_ids)
        except AwsCallError as error:
            return dict.fromkeys(instance_ids, failure(error))
        verdicts = {key: judge(memberships.get(key), group_name) for key in instance_ids}
        results = {
            key: perhaps_by_us(verdict) if repeated else verdict
            for key, verdict in verdicts.items()
            if verdict
        }
        return results | self._detach_rest(group_name, [key for key in instance_ids if key not in results])

    def _detach_rest(self, group_name: str, instance_ids: Sequence[str]) -> dict[str, ActionResult]:
        """Detach what seems detachable; one by one if it is not, so that none holds up another."""
        if not instance_ids:
            return {}
        try:
            return self._detach_call(group_name, instance_ids)
        except AwsCallError as error:
            if len(instance_ids) == 1 or not _refuses_an_instance(error):
                return dict.fromkeys(instance_ids, failure(error))
        return {key: self._detach_rest(group_name, [key])[key] for key in instance_ids}

    def _detach_call(self, group_name: str, instance_ids: Sequence[str]) -> dict[str, ActionResult]:
        with aws_call(DETACH):
            self._autoscaling.detach_instances(
                AutoScalingGroupName=group_name,
                InstanceIds=list(instance_ids),
                ShouldDecrementDesiredCapacity=False,
            )
        return dict.fromkeys(instance_ids, ActionResult(Outcome.DETACHED, {"group": group_name}))

    def _memberships(self, instance_ids: Iterable[str]) -> dict[str, Membership]:
        with aws_call("autoscaling:DescribeAutoScalingInstances"):
            answer = self._autoscaling.describe_auto_scaling_instances(InstanceIds=list(instance_ids))
        return {
            one["InstanceId"]: Membership(one["AutoScalingGroupName"], one["LifecycleState"])
            for one in answer["AutoScalingInstances"]
        }


def _refuses_an_instance(error: AwsCallError) -> bool:
    return isinstance(error, PermanentAwsError) and error.code == "ValidationError"
