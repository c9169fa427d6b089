"""Out of every target group of its fleet: one call for each target group and batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from spot_failover.departures import ActionResult, Departure, failure
from spot_failover.errors import AwsCallError, aws_call
from spot_failover.fleets import Fleet, FleetDirectory
from spot_failover.outcomes import Disposition, Outcome, disposition

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

INVALID_TARGET = "InvalidTarget"


def target_groups(
    departures: Sequence[Departure], fleets: Mapping[str, Fleet]
) -> tuple[dict[str, list[str]], dict[str, ActionResult]]:
    """Return the instances to take out of each target group, and the results where there is none."""
    targets: dict[str, list[str]] = defaultdict(list)
    settled: dict[str, ActionResult] = {}
    for departure in departures:
        node, fleet = departure.node, fleets[departure.node.fleet]
        if not fleet.groups:
            settled[node.instance_id] = ActionResult(Outcome.NO_GROUP)
        elif not fleet.target_group_arns:
            settled[node.instance_id] = ActionResult(Outcome.NO_TARGET_GROUP)
        for arn in fleet.target_group_arns:
            targets[arn].append(node.instance_id)
    return dict(targets), settled


def combine(results: Sequence[tuple[str, ActionResult]]) -> ActionResult:
    """Return one node's result over all its target groups: what is left to do outweighs what is done."""
    weight = {Disposition.DEAD_LETTER: 0, Disposition.RETRY: 1, Disposition.DONE: 2}
    arns = [arn for arn, _ in results]
    worst = min((result for _, result in results), key=lambda result: weight[disposition(result.outcome)])
    if disposition(worst.outcome) is not Disposition.DONE:
        return worst
    registered = any(result.outcome is Outcome.DEREGISTERED for _, result in results)
    outcome = Outcome.DEREGISTERED if registered else Outcome.NOT_REGISTERED
    return ActionResult(outcome, {"target_groups": arns})


class Deregister:
    """Deregisters departing nodes. Deregistering one again, or one that is gone, changes nothing."""

    def __init__(self, elbv2: ElasticLoadBalancingv2Client, directory: FleetDirectory) -> None:
        self._elbv2 = elbv2
        self._directory = directory

    def __call__(self, departures: Sequence[Departure], now: datetime) -> dict[str, ActionResult]:
        """Answer for each departure, by instance id."""
        names = {departure.node.fleet for departure in departures}
        try:
            fleets = self._directory.fleets(names, now=now)
        except AwsCallError as error:
            return {departure.node.instance_id: failure(error) for departure in departures}
        targets, results = target_groups(departures, fleets)
        answers: dict[str, list[tuple[str, ActionResult]]] = defaultdict(list)
        for arn, instance_ids in targets.items():
            for instance_id, result in self._deregister(arn, instance_ids).items():
                answers[instance_id].append((arn, result))
        results |= {instance_id: combine(answer) for instance_id, answer in answers.items()}
        self._forget_failed(departures, results)
        return results

    def _deregister(self, arn: str, instance_ids: Sequence[str]) -> dict[str, ActionResult]:
        try:
            with aws_call("elasticloadbalancing:DeregisterTargets"):
                self._elbv2.deregister_targets(
                    TargetGroupArn=arn, Targets=[{"Id": instance_id} for instance_id in instance_ids]
                )
        except AwsCallError as error:
            if error.code == INVALID_TARGET and len(instance_ids) > 1:
                return {key: self._deregister(arn, [key])[key] for key in instance_ids}
            gone = error.code == INVALID_TARGET
            result = ActionResult(Outcome.NOT_REGISTERED) if gone else failure(error)
            return dict.fromkeys(instance_ids, result)
        return dict.fromkeys(instance_ids, ActionResult(Outcome.DEREGISTERED))

    def _forget_failed(self, departures: Sequence[Departure], results: Mapping[str, ActionResult]) -> None:
        for departure in departures:
            if disposition(results[departure.node.instance_id].outcome) is not Disposition.DONE:
                self._directory.forget(departure.node.fleet)
