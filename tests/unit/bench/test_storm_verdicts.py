"""Which promises a storm keeps."""

from __future__ import annotations

from bench.control_plane.contenders import Contender
from bench.control_plane.load import Load
from bench.control_plane.outcome import Action, CallCount, Notices
from bench.control_plane.storms import Storm
from bench.control_plane.verdicts import judge

NOBODY = Contender("somebody", (), (), ())


def storm(nodes: int, *, seconds: float, calls: int, missed: int = 0) -> Storm:
    """A storm whose nodes all got everything after some seconds, but for those that were missed."""
    notices = Notices({f"i-{number}": 0.0 for number in range(nodes)}, seconds=120.0)
    in_time = {f"i-{number}": seconds for number in range(missed, nodes)}
    return Storm(
        contender=NOBODY,
        notices=notices,
        found=dict.fromkeys(Action, in_time),
        calls={"ssm:SendCommand": CallCount(calls, 0, 0)},
        record_calls={},
        load=Load(0.5, 0.0, 1.0),
        buckets={},
    )


def kept(storms: list[Storm], baseline: Storm, **single: float) -> list[bool]:
    return [verdict.kept for verdict in judge(storms, baseline, single=single or None)]


def test_fast_storm_of_few_calls_keeps_all_promises() -> None:
    ours = [storm(1, seconds=0.2, calls=10), storm(100, seconds=5.0, calls=80)]
    published = storm(100, seconds=30.0, calls=500, missed=40)
    assert kept(ours, published, ours=0.05, published=0.06) == [True] * 6


def test_each_promise_can_be_broken() -> None:
    small, published = storm(1, seconds=0.2, calls=10), storm(100, seconds=30.0, calls=500)
    missed = [small, storm(100, seconds=2.0, calls=80, missed=1)]
    assert kept(missed, published)[0] is False
    assert kept([small, storm(100, seconds=3.1, calls=80)], published)[1] is False
    assert kept([small, storm(100, seconds=2.0, calls=101)], published)[2] is False
    assert kept([small, storm(100, seconds=2.0, calls=1001)], published)[3] is False
    assert kept([small, storm(100, seconds=21.0, calls=80)], published)[4] is False
    assert kept([small], published, ours=0.07, published=0.06)[-1] is False


def test_baseline_that_left_nodes_behind_took_until_their_deadline() -> None:
    assert storm(10, seconds=3.0, calls=1, missed=1).last_action_seconds == 120.0
