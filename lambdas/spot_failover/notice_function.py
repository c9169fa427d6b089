"""What the three functions of a notice have in common: everything but the action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.utilities.data_classes import SQSEvent

from spot_failover import departures
from spot_failover.departures import Action, ActionResult, Departure
from spot_failover.errors import AwsCallError, MalformedMessageError
from spot_failover.fleets import Node, find_nodes
from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Entry
from spot_failover.messages import MessageSettler, Settlement
from spot_failover.notices import Notice, parse_notice
from spot_failover.outcomes import Disposition, Step
from spot_failover.record import record
from spot_failover.settings import Settings
from spot_failover.telemetry import Telemetry
from spot_failover.timestamps import utc_now

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.batch.types import PartialItemFailureResponse
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_sqs import SQSClient


class NoticeFunction:
    """Takes a batch of notices from the queue: parse all, look up once, act once, tell, settle each message.

    The batch processor of Powertools handles a record at a time; here one lookup and one action serve the
    whole batch, so it is used where records do stand alone: to settle each message and to answer Lambda.
    """

    def __init__(
        self,
        step: Step,
        action: Action,
        *,
        settings: Settings,
        ec2: EC2Client,
        sqs: SQSClient,
        dynamodb: DynamoDBClient,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._step = step
        self._action = action
        self._settings = settings
        self._ec2 = ec2
        self._settler = MessageSettler(
            sqs, queue_url=settings.queue_url, dead_letter_queue_url=settings.dead_letter_queue_url
        )
        self._table = IncidentTable(dynamodb, table=settings.incidents_table, ttl=settings.incident_ttl)
        self._clock = clock

    def handle(self, event: Mapping[str, Any], context: Any) -> PartialItemFailureResponse:
        """Handle one batch of queue messages and return which of them are to come back."""
        telemetry = Telemetry(namespace=self._settings.metrics_namespace)
        notices, settlements = self._parse(event, telemetry)
        results = self._results(departures.earliest_notices(notices.values()), telemetry)
        for message_id, notice in notices.items():
            settlements[message_id] = departures.settlement(results[notice.instance_id])
        response = self._settler.settle(event, context, settlements)
        telemetry.flush()
        return response

    def _parse(
        self, event: Mapping[str, Any], telemetry: Telemetry
    ) -> tuple[dict[str, Notice], dict[str, Settlement]]:
        notices: dict[str, Notice] = {}
        settlements: dict[str, Settlement] = {}
        for message in SQSEvent(dict(event)).records:
            try:
                notices[message.message_id] = parse_notice(message.body, notice=self._settings.notice)
            except MalformedMessageError as error:
                telemetry.malformed(message_id=message.message_id, reason=str(error))
                settlements[message.message_id] = Settlement(Disposition.DEAD_LETTER, f"malformed: {error}")
        return notices, settlements

    def _results(self, notices: Mapping[str, Notice], telemetry: Telemetry) -> dict[str, ActionResult]:
        now = self._clock()
        results: dict[str, ActionResult] = {}
        nodes: dict[str, Node] = {}
        going: list[Departure] = []
        try:
            nodes = find_nodes(self._ec2, notices, tag_key=self._settings.fleet_tag_key)
        except AwsCallError as error:
            results = {key: departures.failed_lookup(error, notices[key], now=now) for key in notices}
        for key in notices.keys() - results.keys():
            verdict = departures.triage(notices[key], nodes.get(key), now=now)
            if isinstance(verdict, Departure):
                going.append(verdict)
            else:
                results[key] = verdict
        if going:
            results |= self._action(sorted(going, key=lambda departure: departure.deadline), now)
        self._tell(notices, nodes, results, telemetry)
        return results

    def _tell(
        self,
        notices: Mapping[str, Notice],
        nodes: Mapping[str, Node],
        results: Mapping[str, ActionResult],
        telemetry: Telemetry,
    ) -> None:
        at = self._clock()
        entries: list[Entry] = []
        for key, result in results.items():
            node = nodes.get(key)
            telemetry.outcome(
                self._step,
                result.outcome,
                incident=key if node else None,
                instance_id=key,
                fleet=node.fleet if node else None,
                detail=result.detail,
                seconds=(at - notices[key].noticed_at).total_seconds(),
            )
            entry = departures.entry(self._step, notices[key], node, result, at=at)
            entries += [entry] if entry else []
        record(entries, table=self._table, telemetry=telemetry)
