"""moto's answers, written faster: where a value is looked for in an object is worked out once.

For each field of each object of an answer moto tries some names that the value might have there, and looks
for a transformation of it. It works both out anew each time, and a description of a hundred instances asks
thousands of times for the same. Names, their order, transformations and so the answers stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from moto.core import serialize as moto_serialize
from moto.core.serialize import AttributePicker, AttributePickerContext
from moto.core.utils import MISSING, get_value

from local_aws.moto_override import override

_names: dict[tuple[Any, ...], tuple[str, ...]] = {}


def install() -> None:
    """Take over the search, for all services."""
    # A tag's name is looked through letter by letter; an API has some hundreds of them, an answer thousands.
    xmltodict = moto_serialize.xmltodict
    xmltodict._validate_name = cache(xmltodict._validate_name)

    @override(AttributePicker)
    def __call__(self: Any, context: AttributePickerContext) -> Any:  # noqa: N807 - the method's own name
        value = next(
            (found for name in _names_for(self, context) if (found := _get(context, name)) is not MISSING),
            None,
        )
        transform = _transform_for(self, f"{context.key_path}.{context.key}")
        return transform(value) if transform else value


def _get(context: AttributePickerContext, name: str) -> Any:
    return get_value(context.obj, name, MISSING)


def _names_for(picker: Any, context: AttributePickerContext) -> tuple[str, ...]:
    known = (type(picker), tuple(picker.alias_providers), *_what_names_depend_on(context))
    if known not in _names:
        # A name that was not found is not found the second time either.
        _names[known] = tuple(dict.fromkeys(picker.get_possible_keys(context)))
    return _names[known]


def _what_names_depend_on(context: AttributePickerContext) -> tuple[Any, ...]:
    shape = context.shape
    parent = getattr(shape, "parent", None)
    return (
        context.service_model and context.service_model.service_name,
        type(context.obj),
        context.key,
        shape and (shape.name, shape.type_name, shape.serialization.get("name")),
        parent and (parent.name, parent.type_name),
    )


def _transform_for(picker: Any, key_path: str) -> Callable[[Any], Any] | None:
    """Return the first transformation whose path ends the value's. A picker lives for one answer."""
    if not picker.response_transformers:
        return None
    known: dict[str, Callable[[Any], Any] | None] = picker.__dict__.setdefault("known_transformers", {})
    if key_path not in known:
        known[key_path] = next(
            (one for path, one in picker.response_transformers.items() if key_path.endswith(path)), None
        )
    return known[key_path]
