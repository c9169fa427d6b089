"""A function's cold start without what makes it slower than need be."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_start() -> Iterator[None]:
    """Keep Python's collector away while clients are made, and what was made away from it for good.

    A client's service model is many thousand objects that live as long as the function: the collector would
    look through them again and again while more are loaded, and at every later collection.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
