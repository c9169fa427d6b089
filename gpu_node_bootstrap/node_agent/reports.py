"""What a node tells the control plane, as events: its boot, its drain, its engine's failures.

A node may put events with one source only (its role says so), and whoever reads them checks every field: any
principal of the account that may put events could have written them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from .aws_cli import STDIN, aws
from .errors import AwsCliError
from .log import Log
from .outbox import Outbox
from .settings import Settings
from .times import format_utc

SOURCE = "spot-failover.node"
MOST_ENTRIES = 10
"""That PutEvents takes in one call (EventBridge API reference)."""
ROOM = 100
LONGEST_REASON = 300
"""Characters; the control plane keeps no more."""


class Report(str, Enum):
    """What is reported: an event's detail-type."""

    READY = "Spot Failover Node Ready"
    BOOT_FAILED = "Spot Failover Node Boot Failed"
    ENGINE_FAILED = "Spot Failover Node Engine Failed"
    DRAINED = "Spot Failover Node Drained"


class Reporter:
    """Puts the node's events on the bus. Nothing here blocks or raises into the caller."""

    def __init__(self, settings: Settings, *, instance_id: Callable[[], str | None], log: Log) -> None:
        """Without a bus, nothing is reported."""
        self._bus = settings.event_bus
        self._fleet = settings.fleet
        self._region = settings.region
        self._instance_id = instance_id
        self._outbox: Outbox[Mapping[str, object]] = Outbox("report", send=self._send, room=ROOM, log=log)

    def start(self) -> None:
        """Send from now on, what was reported before included."""
        if self._bus:
            self._outbox.start()

    def boot_ended(self, boot: Mapping[str, object]) -> None:
        """Report a boot that ended well; `boot` is BootRecord.to_json()."""
        self._report(Report.READY, boot=boot)

    def boot_failed(self, *, phase: str, reason: str, boot: Mapping[str, object]) -> None:
        """Report a boot that will never end well."""
        self._report(Report.BOOT_FAILED, phase=phase, reason=reason[:LONGEST_REASON], boot=boot)

    def engine_failed(self, *, reason: str, restarts: int, final: bool) -> None:
        """Report an engine that ended, hung or lost its GPU; `final`: it is not started again."""
        self._report(Report.ENGINE_FAILED, reason=reason[:LONGEST_REASON], restarts=restarts, final=final)

    def drained(self, outcome: Mapping[str, object]) -> None:
        """Report a drain that is over; `outcome` is DrainOutcome.to_json()."""
        self._report(Report.DRAINED, outcome=outcome)

    def close(self, *, grace_seconds: float) -> None:
        """Send what is left, within this time."""
        if self._bus:
            self._outbox.close(grace_seconds=grace_seconds)

    def _report(self, what: Report, **fields: object) -> None:
        if self._bus:
            entry = {"type": what.value, "at": format_utc(time.time()), "fields": fields}
            self._outbox.put(entry, within_seconds=0)

    def _send(self, reports: Sequence[Mapping[str, object]], timeout_seconds: float) -> int:
        instance_id = self._instance_id()
        if instance_id is None:
            return 0
        batch = reports[:MOST_ENTRIES]
        answer = aws(
            *("events", "put-events", "--entries", STDIN, "--output", "json"),
            region=self._region,
            timeout_seconds=timeout_seconds,
            input_text=json.dumps([self._entry(report, instance_id) for report in batch], default=str),
        )
        return accepted(answer, len(batch))

    def _entry(self, report: Mapping[str, object], instance_id: str) -> dict[str, object]:
        fields = report["fields"]
        assert isinstance(fields, dict)
        detail = {"instance-id": instance_id, "fleet": self._fleet, "at": report["at"], **fields}
        return {
            "Source": SOURCE,
            "DetailType": report["type"],
            "Detail": json.dumps(detail, default=str),
            "EventBusName": self._bus,
        }


def accepted(answer: str, count: int) -> int:
    """Return how many entries, from the first on, PutEvents took. Raises AwsCliError where it took none.

    The call succeeds with entries that failed in it; what follows a failed one is sent again with it, which
    repeats events that no reader minds.
    """
    try:
        results = json.loads(answer)["Entries"]
        errors = [
            f"{one['ErrorCode']}: {one.get('ErrorMessage', '')}" if "ErrorCode" in one else ""
            for one in results
        ]
    except (ValueError, KeyError, TypeError) as err:
        raise AwsCliError(f"put-events answered {answer[:200]!r}") from err
    failed = next((number for number, error in enumerate(errors) if error), count)
    if failed == 0:
        raise AwsCliError(errors[0])
    return failed
