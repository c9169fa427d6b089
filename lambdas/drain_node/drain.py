"""Tell nodes to drain: one Run Command for up to fifty of any fleets, with each node's own deadline in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING

from spot_failover.batches import chunks
from spot_failover.departures import BUSY, ActionResult, Departure, Late, failure, never_late
from spot_failover.errors import AwsCallError, PermanentAwsError, aws_call
from spot_failover.outcomes import Outcome
from spot_failover.timestamps import format_seconds

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

INVALID_INSTANCE = "InvalidInstanceId"
COMMAND_LIMIT = 50  # instance ids of one SendCommand, by Systems Manager's API reference
MINIMUM_TIMEOUT = 30  # seconds, by the same


def deadlines_parameter(departures: Iterable[Departure]) -> str:
    """Return the drain document's `Deadlines`: `i-0abc...@2026-11-23T13:40:00Z`, joined by commas."""
    return ",".join(
        f"{departure.node.instance_id}@{format_seconds(departure.deadline)}" for departure in departures
    )


def delivery_timeout(departures: Iterable[Departure], *, now: datetime) -> int:
    """Return for how many seconds the command may wait for its nodes: until the last of them is gone."""
    left = max((departure.deadline - now).total_seconds() for departure in departures)
    return max(MINIMUM_TIMEOUT, ceil(left))


def comment(departures: Sequence[Departure]) -> str:
    """Return what an operator reads beside the command: how many nodes, of which fleets."""
    fleets = dict.fromkeys(departure.node.fleet for departure in departures)
    return f"spot failover: drain {len(departures)} of {', '.join(fleets)}"[:100]


def named(departures: Iterable[Departure], error: AwsCallError) -> list[Departure]:
    """Return the departures that a refusal names, as "Instances [[i-...]] not in a valid state" does.

    No wording is a contract: the refusal may as well name none of them.
    """
    return [one for one in departures if one.node.instance_id in str(error)]


class Drain:
    """Commands drains. A node that is told again joins the drain it is in."""

    def __init__(self, ssm: SSMClient, *, document: str) -> None:
        self._ssm = ssm
        self._document = document

    def __call__(
        self, departures: Sequence[Departure], now: datetime, late: Late = never_late
    ) -> dict[str, ActionResult]:
        """Answer for each departure, by instance id."""
        results: dict[str, ActionResult] = {}
        for chunk in chunks(departures, COMMAND_LIMIT):
            if results and late():
                results |= {departure.node.instance_id: BUSY for departure in chunk}
            else:
                results |= self._command(chunk, now)
        return results

    def _command(self, going: Sequence[Departure], now: datetime) -> dict[str, ActionResult]:
        instance_ids = [departure.node.instance_id for departure in going]
        try:
            with aws_call("ssm:SendCommand"):
                answer = self._ssm.send_command(
                    DocumentName=self._document,
                    InstanceIds=instance_ids,
                    Parameters={"Deadlines": [deadlines_parameter(going)]},
                    TimeoutSeconds=delivery_timeout(going, now=now),
                    Comment=comment(going),
                )
        except AwsCallError as error:
            return self._refused(going, error, now)
        command_id = answer["Command"]["CommandId"]
        return dict.fromkeys(instance_ids, ActionResult(Outcome.COMMANDED, {"command_id": command_id}))

    def _refused(
        self, going: Sequence[Departure], error: AwsCallError, now: datetime
    ) -> dict[str, ActionResult]:
        """Answer for the nodes that the refusal is about, and tell the others without them."""
        refusal = failure(error)
        if error.code == INVALID_INSTANCE:
            # A node's agent has not registered yet, which can take two minutes from the launch.
            refusal = ActionResult(Outcome.NOT_MANAGED, {"error": str(error)[:300]})
        culprits = named(going, error) if isinstance(error, PermanentAwsError) else list(going)
        if not culprits and error.code == INVALID_INSTANCE and len(going) > 1:
            middle = len(going) // 2
            return self._command(going[:middle], now) | self._command(going[middle:], now)
        refused = culprits or going
        others = [one for one in going if one not in refused]
        results = {one.node.instance_id: refusal for one in refused}
        return results | self._command(others, now) if others else results
