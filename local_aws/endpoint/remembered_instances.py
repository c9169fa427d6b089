"""What DescribeInstances says of an instance, put together once for each state that the instance is in.

An instance has some 140 fields, and moto looks for each of them in all its ways whenever it is asked. A storm
of a thousand interruptions asks three thousand times. What is remembered holds for one state, its reason and
one set of tags, and until the next EC2 call that changes anything: what an operator does to one is seen.
"""

from __future__ import annotations

import itertools
from typing import Any

from moto.core.responses import BaseResponse
from moto.core.serialize import EC2Serializer, ResponseSerializer
from moto.ec2.models.instances import Instance

from local_aws.moto_override import wrap

_READING = ("Describe", "Get", "List", "Search")

_told: dict[str, tuple[Any, dict[str, Any]]] = {}
_changes = itertools.count()
_last_change = next(_changes)


def install() -> None:
    """Remember instances, for the calls that read them."""
    wrap(BaseResponse, "call_action", _call_action)
    wrap(ResponseSerializer, "_serialize", _serialize)


def _call_action(original: Any, response: Any) -> Any:
    global _last_change  # noqa: PLW0603 - one process is one local AWS, and its calls come one by one
    if response.service_name == "ec2" and not response._get_action().startswith(_READING):
        _last_change = next(_changes)
    return original(response)


def _serialize(original: Any, serializer: Any, serialized: Any, value: Any, shape: Any, key: str) -> None:
    """Put a value's fields into `serialized`; an instance's come from what was told before."""
    operation = serializer.operation_model.name
    if (
        not isinstance(value, Instance)
        or not isinstance(serializer, EC2Serializer)
        or operation != _OPERATION
    ):
        original(serializer, serialized, value, shape, key)
        return
    state = _state_of(value)
    known = _told.get(value.id)
    if known is None or known[0] != state:
        fields: dict[str, Any] = {}
        original(serializer, fields, value, shape, key)
        known = _told[value.id] = (state, fields)
    serialized.update(known[1])


_OPERATION = "DescribeInstances"


def _state_of(instance: Any) -> tuple[Any, ...]:
    """Return what changes about an instance without an EC2 call: a group launches, ends and untags it."""
    reason = instance.state_reason
    tags = tuple(instance.ec2_backend.tags.get(instance.id, {}).items())
    return (_last_change, instance.state, instance._reason, reason.code, reason.message, tags)
