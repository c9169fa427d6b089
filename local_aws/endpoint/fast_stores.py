"""Queues and tables that stay quick with thousands of messages and items in them.

moto works out the time anew for each message whenever it looks which are visible, counts all of them for each
that is sent or received, and sorts a whole table to answer for one key of it. The answers are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

from moto.dynamodb.models.table import Table
from moto.sqs import models as sqs_models
from moto.sqs.models import Message, Queue, SQSBackend

from local_aws.moto_override import override, wrap


def install() -> None:
    """Take over the slow looks. Comes before whoever wants to set the queues' clock."""
    sqs_models.unix_time_millis = lambda: time.time() * 1000
    # Of fifteen names, for each message.
    sqs_models.camelcase_to_underscores = cache(sqs_models.camelcase_to_underscores)
    _count_messages_at_one_time()

    @override(SQSBackend)
    def is_message_valid_based_on_retention_period(self: Any, queue_name: str, message: Message) -> bool:
        kept = float(self.get_queue(queue_name).message_retention_period)
        return bool(kept + message.sent_timestamp / 1000 > time.time())

    wrap(Table, "query", _query)
    wrap(Table, "all_items", _all_items)


def _count_messages_at_one_time() -> None:
    def visible(queue: Any) -> list[Message]:
        now = sqs_models.unix_time_millis()
        return [m for m in queue._messages if m.visible_at < now and m.delayed_until <= now]

    def delayed(queue: Any) -> int:
        now = sqs_models.unix_time_millis()
        return sum(now < message.delayed_until for message in queue._messages)

    def not_visible(queue: Any) -> int:
        now = sqs_models.unix_time_millis()
        return sum(now <= message.visible_at for message in queue._messages)

    _property(Queue, "messages", visible)
    _property(Queue, "approximate_number_of_messages_delayed", delayed)
    _property(Queue, "approximate_number_of_messages_not_visible", not_visible)


def _property(owner: type, name: str, getter: Callable[[Any], Any]) -> None:
    # Fails where moto has no such property any more.
    assert isinstance(owner.__dict__[name], property), name
    setattr(owner, name, property(getter))


def _query(original: Any, table: Any, hash_key: Any, *arguments: Any, **named: Any) -> Any:
    """Look at one key's items alone, where no index is asked."""
    by_place = arguments[_PLACE_OF_INDEX : _PLACE_OF_INDEX + 1]
    if hash_key is None or any(by_place) or named.get("index_name"):
        return original(table, hash_key, *arguments, **named)
    table.asked_for_key = hash_key
    try:
        return original(table, hash_key, *arguments, **named)
    finally:
        del table.asked_for_key


# Of the index's name among Table.query's arguments, after the hash key.
_PLACE_OF_INDEX = 6


def _all_items(original: Any, table: Any) -> Any:
    key = getattr(table, "asked_for_key", None)
    if key is None or not table.range_key_attr:
        return original(table)
    return sorted(table.items.get(key, {}).values(), key=lambda item: item.range_key)
