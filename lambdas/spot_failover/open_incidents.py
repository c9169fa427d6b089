"""Which incidents are open, and writing to them once, however many sweep at the same time.

An entry that opens an incident carries its id in an attribute of its own until the incident is closed. An
index over that attribute holds what is open and nothing else: reading it while nothing is costs next to
nothing, and the failover itself writes no item more for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from spot_failover.errors import aws_call
from spot_failover.incident_table import KEY, OPEN, SORT, IncidentTable
from spot_failover.incidents import Entry
from spot_failover.timestamps import parse_utc

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TRANSACTION_LIMIT = 100  # items of one TransactWriteItems, by DynamoDB's API reference
# Copies of a notice mark an incident again each time. What more there are is taken off by the next sweeps.
MOST_MARKS = 80
MOST_PAGES = 10  # of at most 1 MB each: what more is open is read when this is closed
# Another writer was there first, or is there now.
_TAKEN = frozenset({"ConditionalCheckFailed", "TransactionConflict"})


@dataclass(frozen=True)
class OpenIncident:
    """An incident that is not closed. `marks` are the sort keys of the entries that say so."""

    incident: str  # the departing node's instance id
    fleet: str
    noticed_at: datetime
    deadline: datetime
    marked_at: datetime  # by our clock, when the first of its entries was written
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Amendment:
    """What is to be added to one incident, whole or not at all: each entry once, and the marks taken off."""

    entries: tuple[Entry, ...] = ()
    closes: OpenIncident | None = None


class OpenIncidents:
    """Reads and amends open incidents."""

    def __init__(self, dynamodb: DynamoDBClient, table: IncidentTable, *, index: str) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._index = index

    def read(self) -> list[OpenIncident]:
        """Return the open incidents, the earliest deadline first. One call where none is open.

        Read from an index, which lags behind by less than a second as a rule. Raises AwsCallError.
        """
        items: list[Mapping[str, Any]] = []
        scan: dict[str, Any] = {"TableName": self._table.name, "IndexName": self._index}
        for _ in range(MOST_PAGES):
            with aws_call("dynamodb:Scan"):
                page = self._dynamodb.scan(**scan)
            items += page["Items"]
            if not (last := page.get("LastEvaluatedKey")):
                break
            scan["ExclusiveStartKey"] = last
        return _open_incidents(items)

    def amend(self, amendments: Mapping[str, Amendment]) -> frozenset[str]:
        """Write amendments, by incident; return the incidents whose amendment was made, by this very call.

        What is there already, or was closed by somebody else meanwhile, refuses its amendment and no other.
        Raises AwsCallError.
        """
        made: set[str] = set()
        for group in _packed({key: self._writes(one) for key, one in amendments.items()}):
            made |= self._commit(group)
        return frozenset(made)

    def _writes(self, amendment: Amendment) -> list[dict[str, Any]]:
        writes: list[dict[str, Any]] = [
            {
                "Put": {
                    "TableName": self._table.name,
                    "Item": self._table.item(entry),
                    "ConditionExpression": "attribute_not_exists(#key)",
                    "ExpressionAttributeNames": {"#key": KEY},
                }
            }
            for entry in amendment.entries
        ]
        closed = amendment.closes
        if closed is not None:
            writes += [self._take_off(closed.incident, mark) for mark in closed.marks[:MOST_MARKS]]
        return writes

    def _take_off(self, incident: str, mark: str) -> dict[str, Any]:
        return {
            "Update": {
                "TableName": self._table.name,
                "Key": {KEY: {"S": incident}, SORT: {"S": mark}},
                "UpdateExpression": "REMOVE #open",
                "ConditionExpression": "attribute_exists(#open)",
                "ExpressionAttributeNames": {"#open": OPEN},
            }
        }

    def _commit(self, group: Mapping[str, Sequence[dict[str, Any]]]) -> set[str]:
        """Write a transaction's worth; without those that are refused, again, until the rest is written."""
        left = dict(group)
        while left:
            owners = [key for key, writes in left.items() for _ in writes]
            items: list[Any] = [write for writes in left.values() for write in writes]
            with aws_call("dynamodb:TransactWriteItems"):
                try:
                    self._dynamodb.transact_write_items(TransactItems=items)
                except ClientError as error:
                    for key in _refused(error, owners):
                        left.pop(key, None)
                    continue
            return set(left)
        return set()


def _open_incidents(items: Sequence[Mapping[str, Any]]) -> list[OpenIncident]:
    by_incident: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        by_incident.setdefault(item[KEY]["S"], []).append(item)
    found = [
        OpenIncident(
            incident=key,
            fleet=group[0]["fleet"]["S"],
            noticed_at=min(parse_utc(item["noticed_at"]["S"]) for item in group),
            deadline=min(parse_utc(item["deadline"]["S"]) for item in group),
            marked_at=min(parse_utc(item[SORT]["S"].split("#")[0]) for item in group),
            marks=tuple(sorted(item[SORT]["S"] for item in group)),
        )
        for key, group in by_incident.items()
    ]
    return sorted(found, key=lambda one: (one.deadline, one.incident))


def _packed(writes: Mapping[str, Sequence[dict[str, Any]]]) -> list[dict[str, Sequence[dict[str, Any]]]]:
    """Return the incidents' writes in groups that fit a transaction each; nobody's are torn apart."""
    groups: list[dict[str, Sequence[dict[str, Any]]]] = []
    room = 0
    for key, own in writes.items():
        if len(own) > room:
            groups.append({})
            room = TRANSACTION_LIMIT
        groups[-1][key] = own
        room -= len(own)
    return groups


def _refused(error: ClientError, owners: Sequence[str]) -> set[str]:
    """Return the incidents that a transaction was cancelled for. Any other error is raised again."""
    reasons: Any = error.response.get("CancellationReasons", [])
    refused = {owner for owner, reason in zip(owners, reasons, strict=False) if reason.get("Code") in _TAKEN}
    if not refused:
        raise error
    return refused
