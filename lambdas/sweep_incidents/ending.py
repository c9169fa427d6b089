"""Ends nodes that nobody owns any more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spot_failover.batches import chunks
from spot_failover.departures import ActionResult, failure
from spot_failover.errors import AwsCallError, PermanentAwsError, aws_call
from spot_failover.outcomes import Outcome

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

ENDED_AT_ONCE = 100
# An instance that is gone by now, or is protected: one of them fails the call for all (API reference).
_OF_ONE_INSTANCE = frozenset({"InvalidInstanceID.NotFound", "OperationNotPermitted", "UnsupportedOperation"})


def end_nodes(ec2: EC2Client, instance_ids: Sequence[str]) -> dict[str, ActionResult]:
    """Terminate the instances and answer for each, by id; one that cannot be ended holds up no other."""
    results: dict[str, ActionResult] = {}
    for chunk in chunks(instance_ids, ENDED_AT_ONCE):
        results |= _end(ec2, chunk)
    return results


def _end(ec2: EC2Client, instance_ids: Sequence[str]) -> dict[str, ActionResult]:
    try:
        with aws_call("ec2:TerminateInstances"):
            ec2.terminate_instances(InstanceIds=list(instance_ids))
    except AwsCallError as error:
        refused = isinstance(error, PermanentAwsError) and error.code in _OF_ONE_INSTANCE
        if len(instance_ids) == 1 or not refused:
            return dict.fromkeys(instance_ids, failure(error))
        return {key: _end(ec2, [key])[key] for key in instance_ids}
    return dict.fromkeys(instance_ids, ActionResult(Outcome.ENDED))
