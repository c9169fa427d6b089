"""DynamoDB in memory: puts with conditions, transactions, queries; an index lags behind its table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.expressions import holds, plain
from tests.simulation.network import client_error
from tests.simulation.timeline import Timeline

Item = Mapping[str, Any]
BATCH_LIMIT = 25
TRANSACTION_LIMIT = 100
_HASH_TERM = re.compile(r"\s*#?\w+\s*=\s*(:\w+)")
_CANCELLED = "Transaction cancelled, please refer cancellation reasons for specific reasons"


@dataclass(frozen=True)
class Index:
    """A global index: its key, and the attributes it holds beside keys; None for all."""

    key: tuple[str, ...]
    attributes: frozenset[str] | None = None


@dataclass
class Table:
    """A table: its key, its indexes, and its items, also as the indexes still see them."""

    key: tuple[str, str]
    indexes: Mapping[str, Index]
    items: dict[tuple[str, str], Item] = field(default_factory=dict)
    seen: dict[tuple[str, str], Item] = field(default_factory=dict)

    def key_of(self, item: Item) -> tuple[str, str]:
        """Return an item's key as texts."""
        first, second = (plain(item[name]) for name in self.key)
        return str(first), str(second)

    def partition(self, index: str | None, value: Mapping[str, Any]) -> list[Item]:
        """Return the items of one hash key, as the table or an index sees them."""
        if index is None:
            wanted = plain(value)
            return [one for (first, _), one in self.items.items() if first == wanted]
        name, *rest = self.indexes[index].key
        some = [one for one in self.seen.values() if one.get(name) == value]
        return self._held([one for one in some if all(each in one for each in rest)], self.indexes[index])

    def read(self, index: str | None) -> list[Item]:
        """Return all items, or those that an index holds, as it sees them."""
        if index is None:
            return list(self.items.values())
        wanted = self.indexes[index]
        first, *rest = wanted.key
        some = [one for one in self.seen.values() if first in one]
        found = [one for one in some if all(name in one for name in rest)]
        return self._held(found, wanted)

    def _held(self, found: list[Item], index: Index) -> list[Item]:
        if index.attributes is None:
            return found
        kept = index.attributes | {*index.key, *self.key}
        return [{name: value for name, value in one.items() if name in kept} for one in found]


@dataclass
class DynamoDb:
    """The tables by name. `lag`: an index's, at most, in seconds. `left_over`: so many batch writes
    (counted from 0) leave their second half unprocessed."""

    timeline: Timeline
    lag: float = 0.5
    left_over: frozenset[int] = frozenset()
    page_size: int = 1000
    tables: dict[str, Table] = field(default_factory=dict)
    _batches: int = 0

    def put_item(self, TableName: str, Item: Item, **condition: Any) -> Any:
        """Put one item, if its condition holds."""
        table = self.tables[TableName]
        self._check("PutItem", table.items.get(table.key_of(Item), {}), condition)
        self._put(table, Item)
        return {}

    def delete_item(self, TableName: str, Key: Item, **condition: Any) -> Any:
        """Delete one item, if its condition holds; one that is not there is no error."""
        table = self.tables[TableName]
        self._check("DeleteItem", table.items.get(table.key_of(Key), {}), condition)
        self._delete(table, table.key_of(Key))
        return {}

    def update_item(self, TableName: str, Key: Item, UpdateExpression: str, **condition: Any) -> Any:
        """Set and remove attributes, if the condition holds; makes an item that is not there."""
        table = self.tables[TableName]
        before = table.items.get(table.key_of(Key), {})
        self._check("UpdateItem", before, condition)
        self._put(table, updated({**before, **Key}, UpdateExpression, condition))
        return {}

    def get_item(self, TableName: str, Key: Item, **_: Any) -> Any:
        """Read one item."""
        table = self.tables[TableName]
        item = table.items.get(table.key_of(Key))
        return {} if item is None else {"Item": item}

    def batch_write_item(self, RequestItems: Mapping[str, Sequence[Mapping[str, Any]]]) -> Any:
        """Put and delete up to 25 items, without conditions; part of them may be left over."""
        requests = [(name, one) for name, some in RequestItems.items() for one in some]
        if not 1 <= len(requests) <= BATCH_LIMIT:
            raise client_error("BatchWriteItem", "ValidationException", "1 to 25 requests")
        keys = {(name, self._key_of_request(name, one)) for name, one in requests}
        if len(keys) < len(requests):
            raise client_error("BatchWriteItem", "ValidationException", "contains duplicates")
        number, self._batches = self._batches, self._batches + 1
        done = (len(requests) + 1) // 2 if number in self.left_over else len(requests)
        for name, one in requests[:done]:
            if "PutRequest" in one:
                self._put(self.tables[name], one["PutRequest"]["Item"])
            else:
                self._delete(self.tables[name], self._key_of_request(name, one))
        rest: dict[str, list[Mapping[str, Any]]] = {}
        for name, one in requests[done:]:
            rest.setdefault(name, []).append(one)
        return {"UnprocessedItems": rest}

    def transact_write_items(self, TransactItems: Sequence[Mapping[str, Any]], **_: Any) -> Any:
        """All or none; a reason for each where a condition fails."""
        if len(TransactItems) > TRANSACTION_LIMIT:
            raise client_error("TransactWriteItems", "ValidationException", "at most 100")
        codes = [self._would_fail(one) for one in TransactItems]
        if any(codes):
            reasons = [{"Code": code or "None"} for code in codes]
            raise client_error(
                "TransactWriteItems", "TransactionCanceledException", _CANCELLED, CancellationReasons=reasons
            )
        for one in TransactItems:
            self._carry_out(one)
        return {}

    def query(
        self,
        TableName: str,
        KeyConditionExpression: str,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
        IndexName: str | None = None,
        FilterExpression: str | None = None,
        ConsistentRead: bool = False,
        ScanIndexForward: bool = True,
        ExclusiveStartKey: Mapping[str, Any] | None = None,
        Limit: int | None = None,
        **_: Any,
    ) -> Any:
        """Read the items of a key, in the order of the sort key."""
        table = self.tables[TableName]
        if IndexName is not None and ConsistentRead:
            raise client_error("Query", "ValidationException", "no consistent reads on global indexes")
        if IndexName is not None and IndexName not in table.indexes:
            raise client_error("Query", "ValidationException", "no such index")
        key = table.key if IndexName is None else table.indexes[IndexName].key
        known = {"names": ExpressionAttributeNames or {}, "values": ExpressionAttributeValues or {}}
        found = [
            one
            for one in table.partition(IndexName, _hash_value(KeyConditionExpression, known["values"]))
            if holds(KeyConditionExpression, one, names=known["names"], values=known["values"])
        ]
        found.sort(key=lambda one: (plain(one[key[-1]]), table.key_of(one)), reverse=not ScanIndexForward)
        return self._page(found, FilterExpression, known, ExclusiveStartKey, Limit)

    def scan(
        self,
        TableName: str,
        IndexName: str | None = None,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
        FilterExpression: str | None = None,
        ExclusiveStartKey: Mapping[str, Any] | None = None,
        Limit: int | None = None,
        **_: Any,
    ) -> Any:
        """Read everything, or all that is in an index: the items that have its keys."""
        table = self.tables[TableName]
        if IndexName is not None and IndexName not in table.indexes:
            raise client_error("Scan", "ValidationException", "no such index")
        known = {"names": ExpressionAttributeNames or {}, "values": ExpressionAttributeValues or {}}
        return self._page(table.read(IndexName), FilterExpression, known, ExclusiveStartKey, Limit)

    def _page(
        self,
        found: Sequence[Item],
        condition: str | None,
        known: Mapping[str, Mapping[str, Any]],
        after: Mapping[str, Any] | None,
        limit: int | None,
    ) -> Any:
        # Where a page begins is nobody's business but the service's: a number does.
        first = int(after["page"]["N"]) if after else 0
        end = first + min(limit or self.page_size, self.page_size)
        more = {"LastEvaluatedKey": {"page": {"N": str(end)}}} if end < len(found) else {}
        page = [
            one
            for one in found[first:end]
            if condition is None or holds(condition, one, names=known["names"], values=known["values"])
        ]
        return {"Items": page, "Count": len(page), **more}

    def _put(self, table: Table, item: Item) -> None:
        kept, key = dict(item), table.key_of(item)
        table.items[key] = kept
        self._after_lag(lambda: table.seen.__setitem__(key, kept))

    def _delete(self, table: Table, key: tuple[str, str]) -> None:
        table.items.pop(key, None)
        self._after_lag(lambda: table.seen.pop(key, None) and None)

    def _after_lag(self, do: Any) -> None:
        # An index applies a key's changes in their order: all lag alike within one instant.
        if self.lag:
            self.timeline.after(self.lag, do)
        else:
            do()

    def _would_fail(self, one: Mapping[str, Any]) -> str | None:
        ((kind, action),) = one.items()
        table = self.tables[action["TableName"]]
        key = table.key_of(action["Item"] if kind == "Put" else action["Key"])
        return None if _fulfils(table.items.get(key, {}), action) else "ConditionalCheckFailed"

    def _carry_out(self, one: Mapping[str, Any]) -> None:
        ((kind, action),) = one.items()
        table = self.tables[action["TableName"]]
        match kind:
            case "Put":
                self._put(table, action["Item"])
            case "Delete":
                self._delete(table, table.key_of(action["Key"]))
            case "Update":
                before = table.items.get(table.key_of(action["Key"]), {})
                self._put(table, updated({**before, **action["Key"]}, action["UpdateExpression"], action))
            case "ConditionCheck":
                pass
            case _:
                raise NotImplementedError(kind)

    def _check(self, operation: str, item: Item, action: Mapping[str, Any]) -> None:
        if not _fulfils(item, action):
            raise client_error(operation, "ConditionalCheckFailedException", "The conditional request failed")

    def _key_of_request(self, name: str, one: Mapping[str, Any]) -> tuple[str, str]:
        item = one["PutRequest"]["Item"] if "PutRequest" in one else one["DeleteRequest"]["Key"]
        return self.tables[name].key_of(item)


def _hash_value(condition: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the value that a key condition asks of the hash key: its first term, by our own writing."""
    term = _HASH_TERM.match(condition)
    if term is None:
        raise NotImplementedError(f"the key condition {condition!r} does not begin with the hash key")
    value: Mapping[str, Any] = values[term.group(1)]
    return value


def _fulfils(item: Item, action: Mapping[str, Any]) -> bool:
    condition = action.get("ConditionExpression")
    if condition is None:
        return True
    names = action.get("ExpressionAttributeNames") or {}
    values = action.get("ExpressionAttributeValues") or {}
    return holds(condition, item, names=names, values=values)


def updated(item: Item, expression: str, action: Mapping[str, Any]) -> dict[str, Any]:
    """Return an item after `SET a = :b, ...` and `REMOVE a, ...`; other clauses are not known."""
    names = action.get("ExpressionAttributeNames") or {}
    values = action.get("ExpressionAttributeValues") or {}
    result = dict(item)
    parts = re.split(r"\b(SET|REMOVE)\b", expression.strip())
    if parts[0].strip():
        raise NotImplementedError(f"the update {expression!r} is not understood")
    for clause, terms in zip(parts[1::2], parts[2::2], strict=True):
        for term in (one.strip() for one in terms.split(",")):
            name, _, value = (part.strip() for part in term.partition("="))
            target = names.get(name, name)
            if clause == "REMOVE":
                result.pop(target, None)
            elif value in values:
                result[target] = values[value]
            else:
                raise NotImplementedError(f"the update {expression!r} is not understood")
    return result
