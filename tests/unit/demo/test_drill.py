"""A drill waits for the whole incident, and hands over what there is when it never becomes whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from spot_failover.incidents import Incident

from local_aws.control_client import NodeView
from local_aws.demo import drill as drill_module
from local_aws.demo.capacity import CapacityPoint
from local_aws.demo.drill import Drill, choose_node, until_next_second
from local_aws.demo.errors import FleetNotReadyError
from local_aws.demo.incident_record import from_incident
from local_aws.demo.interruptions import Interruption
from local_aws.demo.node_facts import is_healthy, node_line
from tests.unit.demo.boot_stories import boot_status

NODE = NodeView(
    instance_id="i-old",
    fleet="demo",
    address="127.9.9.2",
    state="running",
    lifecycle_state="InService",
    target_states={"tg": "healthy"},
    noticed_at=None,
    deadline=None,
    status={"state": "ready", "boot": boot_status()},
    pids=[1],
)


class Scene:
    """Stands for the local AWS, the watch, the record and the traffic at once."""

    def __init__(self) -> None:
        self.noticed_at: float | None = None
        self.lacks: set[str] = set()
        self.restored = True
        self.lasting = 2
        self.steps: list[str] = []
        self.interrupted: list[str] = []

    def interrupt(self, instance_id: str, **_: Any) -> float:
        self.noticed_at = time.time()
        self.interrupted.append(instance_id)
        return self.noticed_at

    def healthy(self) -> list[NodeView]:
        return [NODE, replace(NODE, instance_id="i-busy", address="127.9.9.3")]

    def nodes(self) -> list[NodeView]:
        return [*self.healthy(), replace(NODE, instance_id="i-new")]

    def capacity(self) -> list[CapacityPoint]:
        if self.noticed_at is None:
            return [CapacityPoint(0, 2)]
        points = [CapacityPoint(0, 2), CapacityPoint(self.noticed_at + 0.01, 1)]
        return [*points, CapacityPoint(self.noticed_at + 0.05, 2)] if self.restored else points

    def interruption(self, instance_id: str, *, noticed_at: float, deadline: float) -> Interruption:
        noticed = datetime.fromtimestamp(noticed_at, UTC)
        whole = Interruption(
            instance_id=instance_id,
            noticed_at=noticed,
            deadline=datetime.fromtimestamp(deadline, UTC),
            deregistered_at=noticed + timedelta(seconds=0.5),
            drain_requested_at=noticed + timedelta(seconds=0.6),
            drain_started_at=noticed + timedelta(seconds=0.7),
            drained_at=noticed + timedelta(seconds=17),
            in_flight_at_notice=1,
            cut_requests=0,
            replacement_requested_at=noticed + timedelta(seconds=0.5),
            replacement_instance_id="i-new",
            replacement_in_service_at=noticed + timedelta(seconds=27),
            recovery_seconds=27.0,
            recovery_parts={"launch": 0.5, "machine": 0.5, "engine": 24.5, "in_service": 1.5},
        )
        return replace(whole, **dict.fromkeys(self.lacks))  # type: ignore[arg-type]

    def in_flight_for(self, _: float) -> int:
        return self.lasting

    def step(self, text: str) -> None:
        self.steps.append(text)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(drill_module, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(drill_module, "until_next_second", lambda _: 0.0)
    monkeypatch.setattr(drill_module, "INCIDENT_SECONDS", 0.3)
    monkeypatch.setattr(drill_module, "GOOD_MOMENT_SECONDS", 0.3)
    monkeypatch.setattr(drill_module, "requests_on", lambda node: 3 if node.instance_id == "i-busy" else 1)
    return Scene()


@pytest.fixture
def drill(scene: Scene) -> Drill:
    parts: dict[str, Any] = dict.fromkeys(("control", "watch", "record", "traffic", "progress"), scene)
    return Drill(**parts, desired=2, notice_seconds=0)


def test_busiest_node_is_taken_and_its_whole_incident_comes_back(scene: Scene, drill: Drill) -> None:
    seen = drill.interrupt_one()
    assert scene.interrupted == ["i-busy"]
    assert seen.missing_steps() == ()
    assert seen.engine_start_seconds == 21.5
    assert seen.boot is not None
    assert seen.boot.ready_seconds == 23.5
    assert seen.capacity_restored
    assert seen.capacity_gap_seconds == pytest.approx(0.04, abs=0.001)


def test_each_step_is_told_once_with_its_time(scene: Scene, drill: Drill) -> None:
    drill.interrupt_one()
    assert scene.steps[0] == "NOTICE: i-busy will be taken in 0 s"
    assert scene.steps.count("i-busy +0.5 s: deregistered") == 1
    assert scene.steps[-1] == "i-busy +27.0 s: replacement in service"


@pytest.mark.parametrize(
    "step", ["deregistered_at", "drain_requested_at", "drained_at", "replacement_in_service_at"]
)
def test_incident_that_never_becomes_whole_is_handed_over_with_its_hole(
    scene: Scene, drill: Drill, step: str
) -> None:
    scene.lacks = {step}
    assert step in drill.interrupt_one().missing_steps()


def test_capacity_that_never_comes_back_is_handed_over_as_an_open_gap(scene: Scene, drill: Drill) -> None:
    scene.restored = False
    seen = drill.interrupt_one()
    assert not seen.capacity_restored
    assert seen.capacity_gap_seconds is not None
    assert seen.capacity_gap_seconds >= 0.25


def test_notice_waits_for_requests_that_last_but_not_for_ever(scene: Scene, drill: Drill) -> None:
    scene.lasting = 0
    began = time.monotonic()
    drill.interrupt_one()
    assert time.monotonic() - began >= 0.3
    assert scene.interrupted == ["i-busy"]


def test_fleet_without_a_healthy_node_has_none_to_take() -> None:
    with pytest.raises(FleetNotReadyError):
        choose_node({})


def test_of_equally_busy_nodes_the_oldest_is_taken() -> None:
    assert choose_node({"i-1": 2, "i-2": 2}) == "i-1"


def test_record_is_told_with_every_field_of_the_incident() -> None:
    def at(seconds: int) -> datetime:
        return datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=seconds)

    incident = Incident(
        incident="i-1",
        fleet="demo",
        noticed_at=at(0),
        deadline=at(120),
        deregistered_at=at(1),
        drain_requested_at=at(2),
        drain_started_at=at(3),
        drained_at=at(4),
        in_flight_at_notice=5,
        cut_requests=6,
        replacement_requested_at=at(7),
        replacement_instance_id="i-2",
        replacement_launched_at=at(8),
        replacement_in_service_at=at(9),
    )
    told = from_incident(incident)
    assert set(told.missing_steps()) == {"capacity_gap_seconds", "boot", "recovery_parts"}
    assert told.recovery_seconds == 9
    assert list(told.action_seconds().values()) == [1, 2, 7]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "serving"),
        ({"target_states": {"tg": "initial"}}, "ready, not yet in the load balancer"),
        ({"status": None}, "booting"),
        ({"status": {"state": "starting"}}, "starting"),
        ({"status": {"state": "draining"}, "noticed_at": 1.0}, "draining"),
        ({"status": {"state": "recovering"}}, "recovering"),
        ({"status": {"state": "ready"}, "target_states": {"tg": "draining"}, "noticed_at": 1.0}, "draining"),
        ({"status": None, "noticed_at": 1.0}, "empty"),
        ({"state": "terminated"}, "gone"),
    ],
)
def test_node_is_shown_in_one_word(change: dict[str, Any], state: str) -> None:
    node = replace(NODE, **change)
    assert node_line(node, in_flight=0, now=0).state == state


def test_dead_node_is_not_healthy_whatever_its_target_says() -> None:
    assert is_healthy(NODE)
    assert not is_healthy(replace(NODE, state="terminated"))
    assert not is_healthy(replace(NODE, target_states={}))


def test_seconds_left_count_down_to_the_deadline() -> None:
    line: Callable[..., Any] = node_line
    assert line(replace(NODE, deadline=120.0), in_flight=None, now=20.0).seconds_left == 100.0


@pytest.mark.parametrize("now", [100.0, 100.001, 100.5, 100.999])
def test_notice_is_given_at_the_beginning_of_a_second(now: float) -> None:
    moment = now + until_next_second(now)
    assert 0 < moment % 1 < 0.01
    assert now < moment < now + 1.01
