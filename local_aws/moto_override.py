"""Replaces methods of moto's classes by our own, where moto's behaviour differs from AWS's.

moto keeps its state in classes and module-level registries, so an override holds for the whole process: one
process is one local AWS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from moto.core.common_models import BaseModel

F = TypeVar("F", bound=Callable[..., Any])


def override(owner: type) -> Callable[[F], F]:
    """Make the decorated function the method of `owner` that has its name.

    Raises AttributeError if `owner` has no such method: moto changed, and the override would never run.
    """

    def replace(function: F) -> F:
        getattr(owner, function.__name__)
        setattr(owner, function.__name__, function)
        return function

    return replace


def extend(owner: type) -> Callable[[F], F]:
    """Give `owner` a method that it does not have, e.g. an API call that moto does not implement.

    Raises TypeError if it has one: then the method is to be an `override`.
    """

    def add(function: F) -> F:
        if hasattr(owner, function.__name__):
            raise TypeError(f"{owner.__name__} has a {function.__name__} of its own")
        setattr(owner, function.__name__, function)
        return function

    return add


def wrap(owner: type, name: str, around: Callable[..., Any]) -> None:
    """Run `around(original, *arguments)` in place of a method or class method of `owner`."""
    original = owner.__dict__[name]
    is_class_method = isinstance(original, classmethod)
    inner = original.__func__ if is_class_method else original

    def method(*arguments: Any, **named: Any) -> Any:
        return around(inner, *arguments, **named)

    setattr(owner, name, classmethod(method) if is_class_method else method)


def forget_models() -> None:
    """Let moto's objects go when nobody holds them any more.

    moto keeps every object of every model that it ever made, deleted messages and the copies of a table's
    items that each transaction makes among them, for a page of its own that lists them. Only a reset reads it
    otherwise, and a local AWS is never reset.
    """

    def new(cls: type, *_: Any, **__: Any) -> Any:
        return super(BaseModel, cls).__new__(cls)

    BaseModel.__new__ = staticmethod(new)
