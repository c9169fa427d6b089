"""The incidents table: entries put once, read back, and the one claim that needs a condition."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from spot_failover.batches import chunks
from spot_failover.errors import AwsCallError, RetryableAwsError, aws_call
from spot_failover.incidents import Entry, Incident, fold, fold_all
from spot_failover.outcomes import Outcome, Step
from spot_failover.timestamps import format_milliseconds, parse_utc

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

BATCH_WRITE_LIMIT = 25  # items, by DynamoDB's API reference
UNPROCESSED_PAUSES = (0.1, 0.4)  # seconds before each further attempt at items a batch left over
# When a write has failed, no further one is begun after this long: a table that hangs must not use up the
# function's timeout.
LONGEST_SECONDS = 4.0
KEY, SORT = "incident", "entry"
# On what the functions of a notice write, until the incident is closed: only such items are in the index.
OPEN = "open_incident"
_Key = tuple[str, str]
_OPENING = frozenset({Step.DEREGISTER, Step.DRAIN_COMMAND, Step.REPLACEMENT_REQUEST})


class Claim(StrEnum):
    """What came of claiming a replacement for a departing node."""

    MADE = "made"
    REPLACEMENT_TAKEN = "replacement_taken"  # the launched instance replaces a node already
    DEPARTURE_TAKEN = "departure_taken"  # the departing node has a replacement already


class IncidentTable:
    """Writes and reads entries. `ttl` is how long after its deadline an incident is kept."""

    def __init__(
        self, dynamodb: DynamoDBClient, *, table: str, ttl: timedelta, fleet_index: str = "by_fleet"
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._ttl = ttl
        self._fleet_index = fleet_index

    @property
    def name(self) -> str:
        """The table's name."""
        return self._table

    def write(self, entries: Iterable[Entry]) -> None:
        """Put all entries, one call for 25. The same entry again changes nothing.

        Raises the first AwsCallError, when the others' are tried.
        """
        for error in self.write_each(list(entries)).values():
            raise error

    def write_each(self, entries: Sequence[Entry]) -> dict[int, AwsCallError]:
        """Put all entries as `write` does; return why some were not written, by their index: none is lost
        for another's sake.
        """
        items = {_key(item): item for item in map(self.item, entries)}
        failed: dict[_Key, AwsCallError] = {}
        error: AwsCallError | None = None
        stop_at = time.monotonic() + LONGEST_SECONDS
        for chunk in chunks(list(items.values()), BATCH_WRITE_LIMIT):
            if error and time.monotonic() >= stop_at:
                failed |= dict.fromkeys(map(_key, chunk), error)
                continue
            refused = self._write_chunk(chunk)
            failed |= refused
            error = next(iter(refused.values()), error)
        keys = [(entry.incident, _sort_key(entry)) for entry in entries]
        return {index: failed[key] for index, key in enumerate(keys) if key in failed}

    def incident(self, incident: str) -> Incident | None:
        """Return one node's incident, read consistently, or None. Raises AwsCallError."""
        entries = self._query(
            KeyConditionExpression="#key = :key",
            ExpressionAttributeNames={"#key": KEY},
            ExpressionAttributeValues={":key": {"S": incident}},
            ConsistentRead=True,
        )
        return fold(entries) if entries else None

    def incidents_of_fleet(self, fleet: str, *, since: datetime) -> list[Incident]:
        """Return the fleet's incidents with entries from `since` on, the oldest notice first.

        Read from an index, which lags behind by less than a second as a rule. Raises AwsCallError.
        """
        return fold_all(
            self._query(
                IndexName=self._fleet_index,
                KeyConditionExpression="#fleet = :fleet AND #sort >= :since",
                ExpressionAttributeNames={"#fleet": "fleet", "#sort": SORT},
                ExpressionAttributeValues={
                    ":fleet": {"S": fleet},
                    ":since": {"S": format_milliseconds(since)},
                },
            )
        )

    def claim_replacement(self, entry: Entry, *, replacement: str) -> Claim:
        """Record `entry` and, in the same transaction, that these two instances belong to each other.

        An instance replaces at most one node, and a node is replaced by at most one. Raises AwsCallError.
        """
        claims = [
            self._claim_item(replacement, "replaces", entry),
            self._claim_item(entry.incident, "replaced_by", entry),
        ]
        puts: list[Any] = [
            {
                "Put": {
                    "TableName": self._table,
                    "Item": item,
                    "ConditionExpression": "attribute_not_exists(#key)",
                    "ExpressionAttributeNames": {"#key": KEY},
                }
            }
            for item in claims
        ]
        puts.append({"Put": {"TableName": self._table, "Item": self.item(entry)}})
        with aws_call("dynamodb:TransactWriteItems"):
            try:
                self._dynamodb.transact_write_items(TransactItems=puts)
            except ClientError as error:
                return _refused_claim(error)
        return Claim.MADE

    def _write_chunk(self, items: Sequence[dict[str, Any]]) -> dict[_Key, AwsCallError]:
        """Put a batch's worth; return what was not written. What is refused for one item is put singly."""
        requests: list[Any] = [{"PutRequest": {"Item": item}} for item in items]
        try:
            for pause in (*UNPROCESSED_PAUSES, None):
                with aws_call("dynamodb:BatchWriteItem"):
                    answer = self._dynamodb.batch_write_item(RequestItems={self._table: requests})
                requests = answer.get("UnprocessedItems", {}).get(self._table, [])
                if not requests:
                    return {}
                if pause is not None:
                    time.sleep(pause)
        except AwsCallError as error:
            if error.code == "ValidationException" and len(items) > 1:
                singly = [self._write_chunk([item]) for item in items]
                return {key: one for refused in singly for key, one in refused.items()}
            return {_key(one["PutRequest"]["Item"]): error for one in requests}
        left = RetryableAwsError("dynamodb:BatchWriteItem", "UnprocessedItems", f"{len(requests)} left over")
        return {_key(one["PutRequest"]["Item"]): left for one in requests}

    def _query(self, **query: Any) -> list[Entry]:
        with aws_call("dynamodb:Query"):
            paginator = self._dynamodb.get_paginator("query")
            pages = list(paginator.paginate(TableName=self._table, **query))
        return [_entry(item) for page in pages for item in page["Items"]]

    def item(self, entry: Entry) -> dict[str, Any]:
        """Return an entry as the table holds it."""
        return _serialize(
            {
                KEY: entry.incident,
                SORT: _sort_key(entry),
                "fleet": entry.fleet,
                "at": format_milliseconds(entry.at),
                "step": entry.step.value,
                "outcome": entry.outcome.value,
                "detail": dict(entry.detail),
                "noticed_at": format_milliseconds(entry.noticed_at),
                "deadline": format_milliseconds(entry.deadline),
                "expires_at": self._expires_at(entry),
                **({OPEN: entry.incident} if entry.step in _OPENING else {}),
            }
        )

    def _claim_item(self, instance_id: str, side: str, entry: Entry) -> dict[str, Any]:
        # No `fleet`: a claim is not an entry and stays out of the index.
        return _serialize(
            {
                KEY: f"claim#{instance_id}",
                SORT: side,
                "departing": entry.incident,
                "expires_at": self._expires_at(entry),
            }
        )

    def _expires_at(self, entry: Entry) -> int:
        return int((entry.deadline + self._ttl).timestamp())


def _refused_claim(error: ClientError) -> Claim:
    """Tell which side was taken. Anything but a failed condition is raised again."""
    reasons = error.response.get("CancellationReasons", [])
    codes = [reason.get("Code") for reason in reasons]
    if "ConditionalCheckFailed" not in codes:
        raise error
    return Claim.REPLACEMENT_TAKEN if codes[0] == "ConditionalCheckFailed" else Claim.DEPARTURE_TAKEN


def _key(item: Mapping[str, Any]) -> _Key:
    return item[KEY]["S"], item[SORT]["S"]


def _sort_key(entry: Entry) -> str:
    return f"{format_milliseconds(entry.at)}#{entry.step}"


def _serialize(attributes: Mapping[str, Any]) -> dict[str, Any]:
    # DynamoDB's numbers are decimal and boto3 refuses floats; the way through JSON refuses all but JSON.
    exact = json.loads(json.dumps(attributes, allow_nan=False), parse_float=Decimal)
    return {name: TypeSerializer().serialize(value) for name, value in exact.items()}


def _entry(item: Mapping[str, Any]) -> Entry:
    fields = {name: _plain(TypeDeserializer().deserialize(value)) for name, value in item.items()}
    return Entry(
        incident=fields[KEY],
        fleet=fields["fleet"],
        at=parse_utc(fields["at"]),
        step=Step(fields["step"]),
        outcome=Outcome(fields["outcome"]),
        noticed_at=parse_utc(fields["noticed_at"]),
        deadline=parse_utc(fields["deadline"]),
        detail=fields["detail"],
    )


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value
