"""Instances, their tags and images found by id, not by a look at all there are.

moto copies every reservation, and matches every tag of the account against a pattern, for each instance that
it is asked about, and every image for each that it launches. With a thousand instances that is most of a
call's time. The answers are the same.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import AmiBackend
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.models.tags import TagBackend
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, filter_reservations, get_prefix

from local_aws.moto_override import wrap

_WILDCARDS = frozenset("*?[")
_UNPAGINATED = 1_000_000

Place = tuple[int, Any]
"""A reservation, and its number in the order of launches."""


class InstanceIndex:
    """Where each instance of one EC2 backend is. Instances are never taken away, not even terminated ones."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}

    def add(self, reservation: Any) -> None:
        """Take in a launch."""
        number = len(self._places)
        for instance in reservation.instances:
            self._places[instance.id] = (number, reservation)

    def instance(self, instance_id: str) -> Any | None:
        """Return an instance, or None for one that is not known here."""
        _, reservation = self._places.get(instance_id, (0, None))
        if reservation is None:
            return None
        return next(one for one in reservation.instances if one.id == instance_id)

    def reservations(self, instance_ids: Iterable[str]) -> list[Any] | None:
        """Return copies of the instances' reservations in the order of launches; None unless all known."""
        found: dict[int, Any] = {}
        for instance_id in instance_ids:
            number, reservation = self._places.get(instance_id, (0, None))
            if reservation is None:
                return None
            found[number] = reservation
        return [copy.copy(found[number]) for number in sorted(found)]


_indexes: dict[int, InstanceIndex] = {}


def _index(backend: EC2Backend) -> InstanceIndex:
    # Backends live as long as the process does.
    return _indexes.setdefault(id(backend), InstanceIndex())


def install() -> None:
    """Put the index in front of moto's own ways to an instance."""
    wrap(InstanceBackend, "run_instances", _run_instances)
    wrap(InstanceBackend, "get_instance", _get_instance)
    wrap(InstanceBackend, "get_instance_by_id", _get_instance)
    wrap(InstanceBackend, "describe_instances", _describe_instances)
    wrap(InstanceBackend, "get_reservations_by_instance_ids", _reservations_by_id)
    wrap(TagBackend, "describe_tags", _describe_tags)
    wrap(AmiBackend, "describe_images", _describe_images)
    wrap(InstanceResponse, "describe_instances", _describe_whole)


def _run_instances(original: Any, backend: Any, *arguments: Any, **named: Any) -> Any:
    reservation = original(backend, *arguments, **named)
    _index(backend).add(reservation)
    return reservation


def _get_instance(original: Any, backend: Any, instance_id: str) -> Any:
    return (
        _index(backend).instance(instance_id)
        or _newest(backend, instance_id)
        or original(backend, instance_id)
    )


def _newest(backend: Any, instance_id: str) -> Any | None:
    """Return an instance of the last reservation: one that is still being made asks for itself."""
    last = next(reversed(backend.reservations.values()), None)
    return next((one for one in last.instances if one.id == instance_id), None) if last else None


def _describe_instances(original: Any, backend: Any, filters: Mapping[str, Any] | None = None) -> Any:
    wanted = (filters or {}).get("instance-id")
    found = _index(backend).reservations(wanted) if wanted else None
    return original(backend, filters=filters) if found is None else filter_reservations(found, filters)


def _reservations_by_id(
    original: Any, backend: Any, instance_ids: Sequence[str], filters: Mapping[str, Any] | None = None
) -> Any:
    found = _index(backend).reservations(instance_ids)
    if found is None or len(set(instance_ids)) < len(instance_ids):
        return original(backend, instance_ids, filters=filters)
    for reservation in found:
        reservation.instances = [one for one in reservation.instances if one.id in instance_ids]
    return found if filters is None else filter_reservations(found, filters)


def _describe_whole(original: Any, response: Any) -> Any:
    """Page only where it is asked for (EC2 developer guide, "Pagination"); moto gives a hundred at a time."""
    given = response._get_param

    def param(name: str, if_none: Any = None) -> Any:
        return given(name, _UNPAGINATED if name == "MaxResults" else if_none)

    response._get_param = param
    return original(response)


def _describe_images(
    original: Any,
    backend: Any,
    ami_ids: Sequence[str] | None = None,
    filters: Mapping[str, Any] | None = None,
    **others: Any,
) -> Any:
    """Find one image by its id, as each launch does: moto compares hundreds with a pattern for it."""
    wanted = (filters or {}).get("image-id")
    is_one = isinstance(wanted, str) and not _WILDCARDS & set(wanted)
    if not is_one or ami_ids or others or len(filters or {}) != 1:
        return original(backend, ami_ids=ami_ids, filters=filters, **others)
    image = backend.amis.get(wanted)
    return [image] if image is not None else []


def _describe_tags(original: Any, backend: Any, filters: Mapping[str, Sequence[str]] | None = None) -> Any:
    ids = (filters or {}).get("resource-id", ())
    if filters is None or len(filters) != 1 or len(ids) != 1 or _WILDCARDS & set(ids[0]):
        return original(backend, filters=filters)
    resource_id = ids[0]
    return [
        {
            "resource_id": resource_id,
            "key": key,
            "value": value,
            "resource_type": EC2_PREFIX_TO_RESOURCE.get(get_prefix(resource_id), ""),
        }
        for key, value in backend.tags.get(resource_id, {}).items()
    ]
