"""What the three functions of a notice have in common: everything but the action."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from spot_failover import departures
from spot_failover.batches import chunks
from spot_failover.departures import Action, ActionResult, Departure, Parts
from spot_failover.errors import AwsCallError, MalformedMessageError
from spot_failover.fleets import LOOKUP_LIMIT, Node, find_nodes
from spot_failover.gather import FULL_BATCH, Gatherer
from spot_failover.incident_table import IncidentTable
from spot_failover.incidents import Entry
from spot_failover.messages import Message, MessageSettler, Settlement, delivered
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

# After this long an invocation acts on no further nodes, but puts them back into the queue: the rest of the
# function's timeout is for the calls that are out, for the record and for the queue.
LATEST_START = timedelta(seconds=10)
# How long a storm's throttled calls are left alone: AWS's buckets get back three to twenty tokens a second.
PAUSE = timedelta(seconds=0.5)


class NoticeFunction:
    """Takes notices from the queue: parse all, look up once, act once, tell, settle each message.

    Most often it is one notice. A full batch is a storm's, and more is gathered from the queue.
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
        parts: Parts = departures.parts,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._step = step
        self._action = action
        self._settings = settings
        self._ec2 = ec2
        self._gatherer = Gatherer(sqs, queue_url=settings.queue_url)
        self._settler = MessageSettler(
            sqs, queue_url=settings.queue_url, dead_letter_queue_url=settings.dead_letter_queue_url
        )
        self._table = IncidentTable(dynamodb, table=settings.incidents_table, ttl=settings.incident_ttl)
        self._parts = parts
        self._clock = clock
        self._starved: frozenset[str] = frozenset()  # fleets that time was too short for, last time

    def handle(self, event: Mapping[str, Any], _context: object) -> PartialItemFailureResponse:
        """Handle one batch of queue messages and return which of them are to come back."""
        begun = self._clock()
        telemetry = Telemetry(namespace=self._settings.metrics_namespace)
        messages = self._gatherer.gather(delivered(event))
        notices, settlements = self._parse(messages, telemetry)
        repeated = {
            notices[one.message_id].instance_id
            for one in messages
            if one.receive_count > 1 and one.message_id in notices
        }
        chosen = departures.earliest_notices(notices.values(), now=begun)
        results = self._results(chosen, repeated, telemetry, begun)
        for message_id, notice in notices.items():
            result = departures.result_for(notice, results[notice.instance_id], now=self._clock())
            settlements[message_id] = departures.settlement(result, deadline=notice.deadline)
        response = self._settler.settle(messages, settlements, now=self._clock())
        telemetry.flush()
        return response

    def _parse(
        self, messages: Sequence[Message], telemetry: Telemetry
    ) -> tuple[dict[str, Notice], dict[str, Settlement]]:
        now = self._clock()
        notices: dict[str, Notice] = {}
        settlements: dict[str, Settlement] = {}
        for message in messages:
            try:
                notices[message.message_id] = parse_notice(
                    message.body, notice=self._settings.notice, now=now
                )
            except MalformedMessageError as error:
                telemetry.malformed(message_id=message.message_id, reason=str(error))
                settlements[message.message_id] = Settlement(Disposition.DEAD_LETTER, f"malformed: {error}")
        return notices, settlements

    def _results(
        self, notices: Mapping[str, Notice], repeated: Collection[str], telemetry: Telemetry, begun: datetime
    ) -> dict[str, ActionResult]:
        nodes, results = self._look_up(notices, now=begun)
        going: list[Departure] = []
        now = self._clock()
        for key in [key for key in notices if key not in results]:
            again = key in repeated
            verdict = departures.triage(notices[key], nodes.get(key), now=now, repeated=again)
            if isinstance(verdict, Departure):
                going.append(verdict)
            else:
                results[key] = verdict
        results |= self._act(going, begun)
        lost = self._tell(notices, nodes, results, telemetry)
        if self._step is Step.REPLACEMENT_REQUEST:
            # Without a record that it was us who detached it, nobody would ever end a node that lives on.
            now = self._clock()
            results |= {key: departures.unrecorded(results[key], notices[key], now=now) for key in lost}
        return results

    def _look_up(
        self, notices: Mapping[str, Notice], *, now: datetime
    ) -> tuple[dict[str, Node], dict[str, ActionResult]]:
        """Return the nodes that are going, and the results of the notices that could not be looked up."""
        nodes: dict[str, Node] = {}
        failed: dict[str, ActionResult] = {}
        for keys in chunks(sorted(notices, key=lambda key: notices[key].deadline), LOOKUP_LIMIT):
            try:
                nodes |= find_nodes(self._ec2, keys, tag_key=self._settings.fleet_tag_key)
            except AwsCallError as error:
                failed |= {key: departures.failed_lookup(error, notices[key], now=now) for key in keys}
        return nodes, failed

    def _act(self, going: Sequence[Departure], begun: datetime) -> dict[str, ActionResult]:
        """Act on all departures, the most urgent first; those that time is too short for come back.

        In a storm, what AWS throttles is asked for again from here while there is time: by way of the queue
        it would be looked up, recorded and received anew. A lone notice leaves its waiting to the queue.
        """
        results = self._act_once(going, begun)
        if len(going) <= FULL_BATCH:
            return results
        for _ in range(LATEST_START // PAUSE):
            again = [one for one in going if departures.is_throttled(results[one.node.instance_id])]
            if not again or self._clock() + PAUSE >= begun + LATEST_START:
                break
            time.sleep(PAUSE.total_seconds())
            results |= self._act_once(again, begun)
        return results

    def _act_once(self, going: Sequence[Departure], begun: datetime) -> dict[str, ActionResult]:
        """Act on departures part by part, first of those fleets that time was too short for last time.

        The first part is acted on in any case: were a slow lookup to use up the time, nothing would ever be.
        """

        def late() -> bool:
            return self._clock() >= begun + LATEST_START

        results: dict[str, ActionResult] = {}
        starved = [one for one in going if one.node.fleet in self._starved]
        others = [one for one in going if one.node.fleet not in self._starved]
        for part in [*self._parts(starved), *self._parts(others)]:
            if not results or not late():
                results |= self._action(part, self._clock(), late)
            else:
                results |= {departure.node.instance_id: departures.BUSY for departure in part}
        busy = {one.node.fleet for one in going if departures.is_busy(results[one.node.instance_id])}
        self._starved = self._starved - {one.node.fleet for one in going} | busy
        return results

    def _tell(
        self,
        notices: Mapping[str, Notice],
        nodes: Mapping[str, Node],
        results: Mapping[str, ActionResult],
        telemetry: Telemetry,
    ) -> set[str]:
        """Log, count and record what came of each notice; return the nodes whose entry was not written."""
        at = self._clock()
        entries: list[Entry] = []
        for key, result in results.items():
            if not result.told:
                continue
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
        return record(entries, table=self._table, telemetry=telemetry)
