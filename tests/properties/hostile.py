"""Texts that a queue could hold: real events bent in every field and depth, and texts that are no events.

Made by a seeded generator rather than by hypothesis, for a hundred thousand of them must take seconds: a case
is found again by its seed and number.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

EVENTS = Path(__file__).parents[1] / "data" / "events"
SAMPLES = tuple(json.loads(path.read_text()) for path in sorted(EVENTS.glob("*.json")))

# The world's own: the node that has its notice, and somebody else's instance.
OUR_NODE, THEIR_INSTANCE = f"i-{1:017x}", f"i-{3:017x}"

VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    -0.0,
    1.5,
    2**31,
    2**63,
    10**20,
    10**39,
    10**400,
    -(10**400),
    1e300,
    -1e300,
    1e-300,
    5e-324,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "\udfff\ud800",
    "a\ud83d",
    "\u202eevil",
    "\ufeff",
    "x" * 300,
    "x" * 70_000,
    "é" * 1_000,
    "$(reboot)",
    "'; DROP TABLE incidents; --",
    "#fleet = :fleet",
    "*",
    "i-1234567890abcdef0",
    "i-1234567890ABCDEF0",
    "i-1234567890abcdef0\n",
    "i-12345678",
    OUR_NODE,
    THEIR_INSTANCE,
    "fleet-0",
    "2026-11-23T13:38:00Z",
    "0001-01-01T00:00:00Z",
    "0000-00-00T00:00:00Z",
    "9999-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999999999Z",
    "2026-02-30T00:00:00Z",
    "2026-11-23T24:00:00Z",
    "2026-11-23T23:59:60Z",
    "2026-11-23T13:38:00+14:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "٢٠٢٦-11-23T13:38:00Z",
    "terminate",
    "stop",
    "TERMINATE",
    "Success",
    "chat",
    "claim#i-1234567890abcdef0",
    [],
    [None],
    ["i-1234567890abcdef0"],
    [[[[[[[[]]]]]]]],
    {},
    {"S": "x"},
    {"$ref": "#"},
    {"": ""},
    {"instance-id": "i-1234567890abcdef0"},
    {"\ud800": "\udc00"},
    {str(number): number for number in range(40)},
)
NAMES = ("instance-id", "detail", "EC2InstanceId", "fleet", "", "\ud800", "__proto__", "outcome", "boot")
# Not made by json.dumps: what only a text can be.
TEXTS = (
    "",
    " ",
    "what?",
    "null",
    "NaN",
    "-Infinity",
    "1" * 5_000,
    "1e999999",
    '"' + "x" * 100_000,
    "[" * 100_000,
    "[" * 900 + "]" * 900,
    '{"a":' * 50_000,
    '{"detail":' * 500 + "{}" + "}" * 500,
    "\ufeff{}",
    "{}{}",
    '{"detail": {}, "detail": {"instance-id": "i-1234567890abcdef0"}}',
    "{'detail': {}}",
    "<xml/>",
    "\t\r\n",
)


def bodies(seed: int, count: int) -> Iterator[str]:
    """Yield so many texts; the same for the same seed."""
    random = Random(seed)
    for _ in range(count):
        yield _body(random)


def _body(random: Random) -> str:
    kind = random.random()
    if kind < 0.02:
        return random.choice(TEXTS)
    event = copy.deepcopy(random.choice(SAMPLES))
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        _bend(event, random)
    text = json.dumps(event, ensure_ascii=True)
    if kind < 0.10:
        return _torn(text, random)
    if kind < 0.14:
        return _said_twice(text, random)
    return text


def _bend(event: dict[str, Any], random: Random) -> None:
    """Change one place of the event, wherever it is."""
    container, key = random.choice(list(_places(event)))
    match random.randrange(6):
        case 0 if isinstance(container, dict):
            del container[key]
        case 1 if isinstance(container, dict):
            container[random.choice(NAMES)] = container.pop(key)
        case 2:
            container[key] = [container[key]]
        case 3:
            container[key] = {random.choice(NAMES): container[key]}
        case _:
            container[key] = copy.deepcopy(random.choice(VALUES))
    if not event:
        event["detail"] = copy.deepcopy(random.choice(VALUES))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every place in a document as its container and key."""
    pairs: Any = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


def _torn(text: str, random: Random) -> str:
    """Damage the text itself."""
    at = random.randrange(len(text))
    match random.randrange(4):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + random.choice('"{}[],:\\\0 x9é') + text[at:]
        case 2:
            return text[:at] + text[at + 1 :]
        case _:
            return text + text[:at]


def _said_twice(text: str, random: Random) -> str:
    """Name a field of the event twice, the second time with another value."""
    field = random.choice(("source", "detail-type", "detail", "time"))
    return f"{text[:-1]}, {json.dumps(field)}: {json.dumps(random.choice(VALUES))}}}"
