"""A batch of events about incidents, from the queue to the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import SQSEvent
from spot_failover.departures import ActionResult, failure, settlement
from spot_failover.errors import AwsCallError, MalformedMessageError
from spot_failover.fleets import FleetDirectory
from spot_failover.incident_table import IncidentTable
from spot_failover.messages import MessageSettler, Settlement
from spot_failover.outcomes import Disposition, Outcome
from spot_failover.settings import TrackSettings
from spot_failover.telemetry import Telemetry

from track_incident.events import (
    CommandChanged,
    LaunchFailed,
    LaunchSucceeded,
    TrackedEvent,
    parse_tracked_event,
)
from track_incident.tracking import Finding, Tracker, step_of

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient


class TrackFunction:
    """Takes a batch of events: parse all, look the groups up once, find what each means, write, settle."""

    def __init__(
        self,
        *,
        settings: TrackSettings,
        autoscaling: AutoScalingClient,
        ssm: SSMClient,
        sqs: SQSClient,
        dynamodb: DynamoDBClient,
    ) -> None:
        self._settings = settings
        self._directory = FleetDirectory(autoscaling, tag_key=settings.fleet_tag_key)
        self._table = IncidentTable(
            dynamodb,
            table=settings.incidents_table,
            ttl=settings.incident_ttl,
            fleet_index=settings.incidents_fleet_index,
        )
        self._tracker = Tracker(self._table, ssm)
        self._settler = MessageSettler(
            sqs, queue_url=settings.queue_url, dead_letter_queue_url=settings.dead_letter_queue_url
        )

    def handle(self, event: Mapping[str, Any], context: Any) -> PartialItemFailureResponse:
        """Handle one batch of queue messages and return which of them are to come back."""
        telemetry = Telemetry(namespace=self._settings.metrics_namespace)
        events: dict[str, TrackedEvent] = {}
        counts: dict[str, int] = {}
        settlements: dict[str, Settlement] = {}
        for message in SQSEvent(dict(event)).records:
            counts[message.message_id] = int(message.attributes.approximate_receive_count)
            try:
                events[message.message_id] = parse_tracked_event(message.body)
            except MalformedMessageError as error:
                telemetry.malformed(message_id=message.message_id, reason=str(error))
                settlements[message.message_id] = Settlement(Disposition.DEAD_LETTER, f"malformed: {error}")
        findings = self._write(self._findings(events, counts))
        for message_id, finding in findings.items():
            _tell(finding, telemetry)
            settlements[message_id] = settlement(finding.result)
        response = self._settler.settle(event, context, settlements)
        telemetry.flush()
        return response

    def _findings(self, events: Mapping[str, TrackedEvent], counts: Mapping[str, int]) -> dict[str, Finding]:
        groups = {event.group_name for event in events.values() if not isinstance(event, CommandChanged)}
        fleets: dict[str, str] | AwsCallError
        try:
            fleets = self._directory.fleets_of_groups(groups)
        except AwsCallError as error:
            fleets = error
        return {key: self._finding(event, fleets, counts[key]) for key, event in events.items()}

    def _finding(
        self, event: TrackedEvent, fleets: Mapping[str, str] | AwsCallError, receive_count: int
    ) -> Finding:
        try:
            match event:
                case CommandChanged():
                    return self._tracker.command(event, receive_count=receive_count)
                case LaunchSucceeded() | LaunchFailed():
                    if isinstance(fleets, AwsCallError):
                        return Finding(step_of(event), failure(fleets))
                    fleet = fleets.get(event.group_name)
                    if fleet is None:
                        return Finding(step_of(event), ActionResult(Outcome.FOREIGN))
                    if isinstance(event, LaunchSucceeded):
                        return self._tracker.launch(event, fleet)
                    return self._tracker.failed_launch(event, fleet)
                case _:
                    assert_never(event)
        except AwsCallError as error:
            return Finding(step_of(event), failure(error))

    def _write(self, findings: dict[str, Finding]) -> dict[str, Finding]:
        """Write what is not recorded yet. The record is the work here: without it, messages come back."""
        pending = {key: one for key, one in findings.items() if one.entry and not one.recorded}
        try:
            self._table.write(one.entry for one in pending.values() if one.entry)
        except AwsCallError as error:
            failed = {key: replace(one, result=failure(error)) for key, one in pending.items()}
            return findings | failed
        return findings


def _tell(finding: Finding, telemetry: Telemetry) -> None:
    entry = finding.entry
    telemetry.outcome(
        finding.step,
        finding.result.outcome,
        incident=entry.incident if entry else None,
        instance_id=finding.instance_id,
        fleet=finding.fleet,
        detail=finding.result.detail,
        seconds=(entry.at - entry.noticed_at).total_seconds() if entry else None,
    )
    for name, key in (("drain.in_flight", "in_flight_at_start"), ("drain.cut_requests", "cut")):
        if key in finding.result.detail:
            telemetry.measure(name, MetricUnit.Count, finding.result.detail[key], fleet=finding.fleet)
