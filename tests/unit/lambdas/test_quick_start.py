"""A cold start leaves the collector as it found it: at work."""

from __future__ import annotations

import gc

import pytest
from spot_failover.quick_start import quick_start


def test_nothing_is_collected_while_clients_are_made_and_what_was_made_is_not_looked_at_again() -> None:
    frozen = gc.get_freeze_count()
    try:
        with quick_start():
            assert not gc.isenabled()
            made = [{"a": "model"}]
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
        assert not any(one is made for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_a_start_that_fails_leaves_the_collector_at_work() -> None:
    with pytest.raises(ValueError, match="no setting"), quick_start():
        raise ValueError("no setting")
    gc.unfreeze()
    assert gc.isenabled()
