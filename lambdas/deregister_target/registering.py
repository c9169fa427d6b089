"""The two calls that change who is in a target group: one for all of a batch, single ones after a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from spot_failover.departures import ActionResult, failure
from spot_failover.errors import AwsCallError, aws_call
from spot_failover.outcomes import Disposition, Outcome, disposition

from deregister_target.targets import Registration

if TYPE_CHECKING:
    from mypy_boto3_elbv2 import ElasticLoadBalancingv2Client

INVALID_TARGET = "InvalidTarget"  # the instance is not there, or does not run


class Registering:
    """Answers by instance id. An instance with several ports is done when all of them are."""

    def __init__(self, elbv2: ElasticLoadBalancingv2Client) -> None:
        self._elbv2 = elbv2

    def deregister(self, arn: str, registrations: Sequence[Registration]) -> dict[str, ActionResult]:
        """Deregister, and answer for each instance."""

        def call(targets: list[Any]) -> None:
            with aws_call("elasticloadbalancing:DeregisterTargets"):
                self._elbv2.deregister_targets(TargetGroupArn=arn, Targets=targets)

        failed = _in_one_call_or_single(call, registrations)
        done = {one.instance_id: ActionResult(Outcome.DEREGISTERED) for one in registrations}
        return done | failed

    def register(self, arn: str, registrations: Sequence[Registration]) -> dict[str, ActionResult]:
        """Register again, and answer for those instances alone for which that failed.

        One that does not run any more cannot serve: it is in no target group, and that is that.
        """

        def call(targets: list[Any]) -> None:
            with aws_call("elasticloadbalancing:RegisterTargets"):
                self._elbv2.register_targets(TargetGroupArn=arn, Targets=targets)

        return _in_one_call_or_single(call, registrations)


def _in_one_call_or_single(
    call: Callable[[list[Any]], None], registrations: Sequence[Registration]
) -> dict[str, ActionResult]:
    """Return what went wrong, by instance id: an invalid target must not refuse the others' call."""
    if not registrations:
        return {}
    try:
        call([_target(one) for one in registrations])
    except AwsCallError as error:
        if error.code == INVALID_TARGET and len(registrations) > 1:
            return _worst(_in_one_call_or_single(call, [one]) for one in registrations)
        gone = error.code == INVALID_TARGET
        result = ActionResult(Outcome.NOT_REGISTERED) if gone else failure(error)
        return {one.instance_id: result for one in registrations}
    return {}


def _worst(results: Iterable[dict[str, ActionResult]]) -> dict[str, ActionResult]:
    worst: dict[str, ActionResult] = {}
    for each in results:
        for instance_id, result in each.items():
            known = worst.get(instance_id)
            if known is None or disposition(known.outcome) is Disposition.DONE:
                worst[instance_id] = result
    return worst


def _target(registration: Registration) -> dict[str, Any]:
    if registration.port is None:
        return {"Id": registration.instance_id}
    return {"Id": registration.instance_id, "Port": registration.port}
