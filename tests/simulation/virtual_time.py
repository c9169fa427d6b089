"""The functions' clocks, put on virtual time, wherever they took them from."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

from spot_failover import timestamps

from tests.simulation.functions import packages
from tests.simulation.timeline import Timeline


@contextmanager
def virtual_time(timeline: Callable[[], Timeline]) -> Iterator[None]:
    """Let every module of the functions that is imported read and spend the timeline's time.

    Replaced are the one source of dates (`timestamps`), the module `time` and its functions where a module
    names them, and those that stand as defaults of parameters.
    """
    virtual = {
        "time": lambda: timeline().now,
        "monotonic": lambda: timeline().now,
        "perf_counter": lambda: timeline().now,
        "sleep": lambda seconds: timeline().wait(seconds),
    }
    real = {getattr(time, name): double for name, double in virtual.items()}
    module_time = SimpleNamespace(**virtual)
    dates = SimpleNamespace(
        now=lambda zone=UTC: datetime.fromtimestamp(timeline().now, zone),
        fromisoformat=datetime.fromisoformat,
        fromtimestamp=datetime.fromtimestamp,
    )
    with ExitStack() as stack:
        stack.enter_context(patch.object(timestamps, "datetime", dates))
        for module in packages():
            for name, value in list(vars(module).items()):
                if value is time:
                    stack.enter_context(patch.object(module, name, module_time))
                elif isinstance(value, FunctionType | type(time.time)) and value in real:
                    stack.enter_context(patch.object(module, name, real[value]))
            for function in _functions(module):
                _replace_defaults(stack, function, real)
        yield


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    for value in vars(module).values():
        if inspect.isfunction(value):
            yield value
        elif inspect.isclass(value) and value.__module__ == module.__name__:
            yield from (one for one in vars(value).values() if inspect.isfunction(one))


def _replace_defaults(stack: ExitStack, function: FunctionType, real: dict[Any, Any]) -> None:
    keyword = function.__kwdefaults__ or {}
    if any(_is_clock(value, real) for value in keyword.values()):
        replaced = {key: real[v] if _is_clock(v, real) else v for key, v in keyword.items()}
        stack.enter_context(patch.object(function, "__kwdefaults__", replaced))
    positional = function.__defaults__ or ()
    if any(_is_clock(value, real) for value in positional):
        values = tuple(real[v] if _is_clock(v, real) else v for v in positional)
        stack.enter_context(patch.object(function, "__defaults__", values))


def _is_clock(value: Any, real: dict[Any, Any]) -> bool:
    return isinstance(value, type(time.time)) and value in real
