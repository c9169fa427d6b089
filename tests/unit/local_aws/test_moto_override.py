"""What moto keeps for ever, a local AWS lets go."""

from __future__ import annotations

import copy
import gc
import weakref

import pytest
from moto.core.common_models import BaseModel

from local_aws.moto_override import forget_models


class Thing(BaseModel):  # type: ignore[misc] # moto is untyped here
    def __init__(self, name: str, *, size: int) -> None:
        self.name = name
        self.size = size


def test_model_that_nobody_holds_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseModel, "__new__", BaseModel.__new__)  # put back afterwards
    forget_models()
    thing = Thing("a", size=3)
    copied = copy.deepcopy(thing)
    assert (copied.name, copied.size) == ("a", 3)
    seen = weakref.ref(thing), weakref.ref(copied)
    del thing, copied
    gc.collect()
    assert [reference() for reference in seen] == [None, None]
