"""EventBridge events as they come out of a queue: any text in, an event or a clear refusal out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spot_failover.errors import MalformedMessageError
from spot_failover.timestamps import parse_utc

_INSTANCE_ID = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})")
# What a name or a tag's value of Auto Scaling's can hold, by its API reference. A call that asks for another
# is refused as a whole, and with it all the messages of its batch.
_NAME = re.compile("[\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff\r\n\t]+")


@dataclass(frozen=True)
class Event:
    """What EventBridge puts around every event. `detail` is not looked into yet."""

    source: str
    detail_type: str
    time: datetime
    detail: Mapping[str, Any]


def parse_event(body: str) -> Event:
    """Read an EventBridge event from a message's body. Raises MalformedMessageError saying what is wrong."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError(f"not JSON: {type(error).__name__}") from error
    if not is_unicode(body):
        raise MalformedMessageError("half a surrogate pair, or nested too deep: no call to AWS can carry it")
    if not isinstance(document, dict):
        raise MalformedMessageError(f"not a JSON object but {type(document).__name__}")
    detail = document.get("detail")
    if not isinstance(detail, dict):
        raise MalformedMessageError("detail is not an object")
    return Event(
        source=text(document, "source"),
        detail_type=text(document, "detail-type"),
        time=modern_time(document, "time"),
        detail=detail,
    )


def is_unicode(document: str) -> bool:
    """Whether a JSON text's strings can be sent on: an escape can stand for half a character.

    Nor is anything passed on that is nested so deep that it could only just be read.
    """
    if "\\ud" not in document.lower():
        return True
    try:
        json.dumps(json.loads(document), ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def text(fields: Mapping[str, Any], name: str) -> str:
    """Return a field that must be a text with something in it."""
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise MalformedMessageError(f"{name} is {_shown(value)}, not a text")
    return value


def name(fields: Mapping[str, Any], key: str, *, longest: int) -> str:
    """Return a field that must be the name of a group or a fleet, of so many characters at most."""
    value = text(fields, key)
    if len(value) > longest:
        raise MalformedMessageError(f"{key} has more than {longest} characters")
    if not _NAME.fullmatch(value):
        raise MalformedMessageError(f"{key} is {_shown(value)}, not a name")
    return value


def time(fields: Mapping[str, Any], name: str) -> datetime:
    """Return a field that must be a UTC time."""
    try:
        return parse_utc(text(fields, name))
    except ValueError as error:
        raise MalformedMessageError(f"{name} is {_shown(fields[name])}, not a UTC time") from error


def modern_time(fields: Mapping[str, Any], name: str) -> datetime:
    """Return a field that must be a UTC time of our years: a window around it stays in the calendar."""
    value = time(fields, name)
    if not is_modern(value):
        raise MalformedMessageError(f"{name} is {_shown(fields[name])}, not a time of ours")
    return value


def is_modern(moment: datetime) -> bool:
    """Whether a time is of our years."""
    return 2020 <= moment.year < 2100


def instance_id(fields: Mapping[str, Any], name: str) -> str:
    """Return a field that must be an EC2 instance id."""
    value = text(fields, name)
    if not _INSTANCE_ID.fullmatch(value):
        raise MalformedMessageError(f"{name} is {_shown(value)}, not an instance id")
    return value


def _shown(value: object) -> str:
    """Return the value for a message: short, and in ASCII, which everything can carry."""
    shown = ascii(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
    return shown if len(shown) <= 60 else shown[:57] + "..."
