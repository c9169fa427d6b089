"""Tell nodes to drain: one Run Command for each fleet and batch, with each node's own deadline in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING

from spot_failover.batches import chunks
from spot_failover.departures import ActionResult, Departure, by_fleet, failure
from spot_failover.errors import AwsCallError, aws_call
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


class Drain:
    """Commands drains. A node that is told again joins the drain it is in."""

    def __init__(self, ssm: SSMClient, *, document: str) -> None:
        self._ssm = ssm
        self._document = document

    def __call__(self, departures: Sequence[Departure], now: datetime) -> dict[str, ActionResult]:
        """Answer for each departure, by instance id."""
        results: dict[str, ActionResult] = {}
        for fleet, going in by_fleet(departures).items():
            for chunk in chunks(going, COMMAND_LIMIT):
                results |= self._command(fleet, chunk, now)
        return results

    def _command(self, fleet: str, going: Sequence[Departure], now: datetime) -> dict[str, ActionResult]:
        instance_ids = [departure.node.instance_id for departure in going]
        try:
            with aws_call("ssm:SendCommand"):
                answer = self._ssm.send_command(
                    DocumentName=self._document,
                    InstanceIds=instance_ids,
                    Parameters={"Deadlines": [deadlines_parameter(going)]},
                    TimeoutSeconds=delivery_timeout(going, now=now),
                    Comment=f"spot failover: drain {len(going)} of {fleet}"[:100],
                )
        except AwsCallError as error:
            if error.code != INVALID_INSTANCE:
                return dict.fromkeys(instance_ids, failure(error))
            if len(going) == 1:
                # Its agent has not registered yet, which can take two minutes from the launch.
                return {instance_ids[0]: ActionResult(Outcome.NOT_MANAGED, {"error": str(error)[:300]})}
            return {key: result for one in going for key, result in self._command(fleet, [one], now).items()}
        command_id = answer["Command"]["CommandId"]
        return dict.fromkeys(instance_ids, ActionResult(Outcome.COMMANDED, {"command_id": command_id}))
