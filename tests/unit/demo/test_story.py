"""A node's life is told in the order in which its states really were."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_aws.demo.interruptions import Interruption
from local_aws.demo.picture import LabelBox, draw, free_top, step_groups
from local_aws.demo.story import NodeLife, NodeState, Span, Story, node_lives
from tests.unit.demo.boot_stories import boot_of


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(1_800_000_000 + seconds, UTC)


def entry(seconds: float, kind: str, instance_id: str = "a", **more: Any) -> dict[str, Any]:
    return {"at": 1_800_000_000 + seconds, "kind": kind, "instance_id": instance_id, **more}


LEAVING = Interruption(
    instance_id="a",
    noticed_at=at(50),
    deadline=at(170),
    deregistered_at=at(50.6),
    drain_requested_at=at(50.8),
    replacement_requested_at=at(50.7),
    drain_started_at=at(51),
    drained_at=at(68),
    replacement_instance_id="b",
    replacement_in_service_at=at(80),
    boot=boot_of(),
)
ENTRIES = [
    entry(0, "node_started"),
    entry(1, "api_call", instance_id="a"),
    entry(10, "target_state", state="initial"),
    entry(20, "target_state", state="healthy"),
    entry(50.6, "target_state", state="draining"),
    entry(52, "node_started", "b"),
    entry(88, "target_state", "b", state="healthy"),
    entry(170, "node_killed"),
]


def spans(life: NodeLife, until: float) -> list[tuple[NodeState, float, float]]:
    base = 1_800_000_000
    return [(s.state, s.begin - base, s.end - base) for s in life.spans(base + until)]


def test_departed_node_goes_through_all_states() -> None:
    leaving, _ = node_lives(ENTRIES, [LEAVING])
    assert spans(leaving, 200) == [
        (NodeState.STARTING, 0, 20),
        (NodeState.SERVING, 20, 51),
        (NodeState.DRAINING, 51, 68),
        (NodeState.EMPTY, 68, 170),
    ]


def test_story_that_ends_early_shows_no_later_state() -> None:
    leaving, coming = node_lives(ENTRIES, [LEAVING])
    assert spans(leaving, 60)[-1] == (NodeState.DRAINING, 51, 60)
    assert spans(coming, 60) == [(NodeState.STARTING, 52, 60)]


def test_node_that_dies_while_it_starts_has_one_state() -> None:
    (life,) = node_lives([entry(0, "node_started"), entry(9, "node_killed")], [])
    assert life.spans(1_800_000_100) == (Span(NodeState.STARTING, 1_800_000_000, 1_800_000_009),)


def test_steps_of_the_same_moment_share_a_label() -> None:
    groups = step_groups(LEAVING, begin=1_800_000_000)
    assert [round(where, 1) for where, _ in groups] == [50, 68, 80]
    assert groups[0][1].splitlines() == [
        "notice a",
        "+0.6 s  deregistered",
        "+0.7 s  replacement requested",
        "+0.8 s  drain requested",
        "+1.0 s  drain begins",
    ]
    assert groups[2][1] == "+30.0 s  replacement in service"


def test_label_stands_below_those_it_would_cover_and_no_lower() -> None:
    long = LabelBox(left=0, right=16, top=0.98, bottom=0.38)
    assert free_top([long], left=16, right=32, height=0.6) == 0.98
    assert free_top([long], left=9, right=25, height=0.24) == 0.38
    short = LabelBox(left=20, right=36, top=0.98, bottom=0.74)
    assert free_top([long, short], left=18, right=34, height=0.24) == 0.74


def test_picture_is_drawn_even_of_a_run_that_broke_off(tmp_path: Path) -> None:
    whole = Story(
        title="t",
        begin=1_800_000_000,
        end=1_800_000_100,
        desired=2,
        nodes=node_lives(ENTRIES, [LEAVING]),
        capacity=[],
        records=[],
        interruptions=[LEAVING],
    )
    broken = replace(whole, nodes=[], interruptions=[], end=whole.begin)
    for number, story in enumerate((whole, broken)):
        path = tmp_path / f"{number}.png"
        draw(story, path)
        header = path.read_bytes()[:24]
        assert header[1:4] == b"PNG"
        assert struct.unpack(">I", header[16:20])[0] > 1000
