"""In the bundle, in place of typing_extensions: the two names of it that Powertools imports when it runs.

The whole of it is 160 KB, which each cold start would compile; Lambda's Python has both names by itself,
since 3.11 and 3.13.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NotRequired, TypeVar

__all__ = ["NotRequired", "deprecated"]

T = TypeVar("T")


def _unmarked(_message: str, /, **_options: Any) -> Callable[[T], T]:
    """Do for an older Python, where the local AWS may run: leave unsaid that something is deprecated."""
    return lambda decorated: decorated


deprecated = getattr(warnings, "deprecated", _unmarked)
