"""A batch of events about incidents, from the queue to the table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.metrics import MetricUnit
from spot_failover.departures import ActionResult, failure, settlement
from spot_failover.errors import AwsCallError, MalformedMessageError
from spot_failover.fleets import FleetDirectory
from spot_failover.gather import Gatherer
from spot_failover.incident_table import IncidentTable
from spot_failover.messages import Message, MessageSettler, Settlement, delivered
from spot_failover.outcomes import Disposition, Outcome, Step
from spot_failover.settings import TrackSettings
from spot_failover.telemetry import Telemetry
from spot_failover.timestamps import utc_now

from track_incident.command_outputs import CommandOutputs
from track_incident.events import CommandChanged, IncidentEvent, TrackedEvent, parse_tracked_event
from track_incident.findings import Finding, step_of
from track_incident.known_fleets import KnownFleets, find_fleets
from track_incident.known_incidents import KnownIncidents
from track_incident.node_events import NodeEngineFailed, NodeEvent
from track_incident.node_tracking import NodeTracker
from track_incident.tracking import Tracker

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

# After this long an invocation looks no further events up, but puts them back: what it found is still to be
# written and settled.
LATEST_START = timedelta(seconds=8)
BUSY = "too much at once"
# Most events cost a query or a transaction of their own: more than this would be gathered to be put back.
MOST_EVENTS = 200


class TrackFunction:
    """Takes events: parse all, look each fleet up once, find what each event means, write, settle.

    A full batch is a storm's, and more is gathered from the queue.
    """

    def __init__(
        self,
        *,
        settings: TrackSettings,
        autoscaling: AutoScalingClient,
        ssm: SSMClient,
        sqs: SQSClient,
        dynamodb: DynamoDBClient,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._directory = FleetDirectory(autoscaling, tag_key=settings.fleet_tag_key)
        self._table = IncidentTable(
            dynamodb,
            table=settings.incidents_table,
            ttl=settings.incident_ttl,
            fleet_index=settings.incidents_fleet_index,
        )
        self._ssm = ssm
        self._clock = clock
        self._gatherer = Gatherer(sqs, queue_url=settings.queue_url, most=MOST_EVENTS)
        self._settler = MessageSettler(
            sqs, queue_url=settings.queue_url, dead_letter_queue_url=settings.dead_letter_queue_url
        )

    def handle(self, event: Mapping[str, Any], _context: object) -> PartialItemFailureResponse:
        """Handle one batch of queue messages and return which of them are to come back."""
        telemetry = Telemetry(namespace=self._settings.metrics_namespace)
        messages = self._gatherer.gather(delivered(event))
        events, settlements = _parse(messages, telemetry)
        counts = {one.message_id: one.receive_count for one in messages}
        fleets = find_fleets(self._directory, events.values(), now=self._clock())
        begun = self._clock()
        incidents = KnownIncidents(self._table)
        batch = _Batch(fleets, Tracker(incidents, CommandOutputs(self._ssm)), NodeTracker(incidents))
        findings = {}
        for key, one in events.items():
            if isinstance(one, NodeEngineFailed):
                settlements[key] = _tell_engine(one, fleets, telemetry)
            elif self._clock() >= begun + LATEST_START:
                findings[key] = Finding(step_of(one), ActionResult(Outcome.RETRYING, {"reason": BUSY}))
            else:
                findings[key] = batch.finding(one, receive_count=counts[key])
        for key, finding in self._write(once(findings)).items():
            _tell(finding, telemetry)
            settlements[key] = settlement(finding.result)
        response = self._settler.settle(messages, settlements, now=self._clock())
        telemetry.flush()
        return response

    def _write(self, findings: dict[str, Finding]) -> dict[str, Finding]:
        """Write what is not recorded yet. The record is the work here: without it, messages come back."""
        pending = {key: one.entry for key, one in findings.items() if one.entry and not one.recorded}
        keys = list(pending)
        failed = self._table.write_each(list(pending.values()))
        results = {keys[index]: failure(error) for index, error in failed.items()}
        return findings | {key: replace(findings[key], result=result) for key, result in results.items()}


@dataclass(frozen=True)
class _Batch:
    """What the events of one batch are looked up in."""

    fleets: KnownFleets
    tracker: Tracker
    nodes: NodeTracker

    def finding(self, event: IncidentEvent, *, receive_count: int) -> Finding:
        """Find what an event means; an error is a finding, too."""
        try:
            if isinstance(event, CommandChanged):
                return self.tracker.command(event, receive_count=receive_count)
            fleet = self.fleets.of(event)
            if fleet is None:
                return Finding(step_of(event), ActionResult(Outcome.FOREIGN))
            if isinstance(event, NodeEvent):
                return self.nodes.report(event, receive_count=receive_count)
            return self.tracker.launch_ended(event, fleet)
        except AwsCallError as error:
            return Finding(step_of(event), failure(error))


def _parse(
    messages: Iterable[Message], telemetry: Telemetry
) -> tuple[dict[str, TrackedEvent], dict[str, Settlement]]:
    """Return the events by message, and what becomes of the messages that are none."""
    events: dict[str, TrackedEvent] = {}
    settlements: dict[str, Settlement] = {}
    for message in messages:
        try:
            events[message.message_id] = parse_tracked_event(message.body)
        except MalformedMessageError as error:
            telemetry.malformed(message_id=message.message_id, reason=str(error))
            settlements[message.message_id] = Settlement(Disposition.DEAD_LETTER, f"malformed: {error}")
    return events, settlements


def once(findings: Mapping[str, Finding]) -> dict[str, Finding]:
    """Return the findings with each drain and boot counted once, though a batch tells it twice."""
    seen: set[object] = set()
    told = {}
    for key, finding in findings.items():
        entry, told[key] = finding.entry, finding
        if entry is None or entry.step not in (Step.DRAIN, Step.BOOT):
            continue
        unreported = entry.outcome is Outcome.UNREPORTED
        what = (entry.incident, entry.step, entry.detail.get("instance_id"), unreported)
        if what in seen:
            told[key] = replace(finding, result=ActionResult(Outcome.ALREADY_REPORTED))
        seen.add(what)
    return told


def _tell_engine(event: NodeEngineFailed, fleets: KnownFleets, telemetry: Telemetry) -> Settlement:
    """Log and count an engine's failure: it is no part of an incident, for its node has no notice."""
    try:
        fleet = fleets.of(event)
    except AwsCallError as error:
        return settlement(failure(error))
    if fleet is None:
        telemetry.count(f"engine.{Outcome.FOREIGN}", fleet=None)
    else:
        telemetry.engine_failed(
            instance_id=event.instance_id,
            fleet=event.fleet,
            reason=event.reason,
            restarts=event.restarts,
            final=event.final,
        )
    return Settlement(Disposition.DONE)


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
