"""A node with a notice lets its requests finish and is empty in time, whichever way the notice reached it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real_engine

STREAM_TOKENS = 1_000
IN_TIME = ("command_alone", "imds_alone", "both", "control_plane_off")
ALL = (*IN_TIME, "cannot_finish")


def entries(scene: Any, kind: str, instance_id: str) -> list[dict[str, Any]]:
    return [e for e in scene.timeline if e["kind"] == kind and e.get("instance_id") == instance_id]


@pytest.mark.parametrize("scenario", IN_TIME)
def test_node_that_can_finish_cuts_no_request(scene: Any, scenario: str) -> None:
    outcome = getattr(scene, scenario).outcome()
    # An idle engine that has no processor to end by itself is killed in the end; nobody loses anything by it.
    assert outcome["outcome"] == "drained", outcome
    assert outcome["in_flight_at_start"] >= 1
    assert outcome["cut"] == 0
    assert outcome["finished"] >= outcome["in_flight_at_start"]


def test_every_stream_through_the_load_balancer_is_whole(scene: Any) -> None:
    assert len(scene.streams) >= 8
    for stream in scene.streams:
        assert (stream.complete, stream.finish_reason, stream.tokens) == (True, "length", STREAM_TOKENS)


def test_new_requests_are_answered_all_the_while(scene: Any) -> None:
    assert len(scene.probes) > 50
    assert {status for _, status in scene.probes} == {200}


def test_command_alone_drains_the_node(scene: Any) -> None:
    departure = scene.command_alone
    assert departure.outcome()["trigger"] == "command"
    last = entries(scene, "command", departure.instance_id)[-1]
    assert (last["status"], last["response_code"]) == ("Success", 0)


def test_metadata_alone_drains_the_node(scene: Any) -> None:
    departure = scene.imds_alone
    assert departure.outcome()["trigger"] == "imds"
    assert entries(scene, "command", departure.instance_id) == []


def test_command_and_metadata_together_drain_the_node_once(scene: Any, drain_logs: Any) -> None:
    departure = scene.both
    started = [e for e in drain_logs(departure.instance_id) if e["event"] == "drain_started"]
    assert len(started) == 1
    assert entries(scene, "command", departure.instance_id)[-1]["status"] == "Success"


def test_requests_that_cannot_finish_are_cut_before_the_deadline(scene: Any) -> None:
    departure = scene.cannot_finish
    outcome = departure.outcome()
    assert outcome["outcome"] == "cut"
    assert outcome["cut"] >= 1
    assert departure.engine_gone_at() < departure.deadline
    assert not any(s.complete and s.finish_reason == "length" for s in scene.endless)


@pytest.mark.parametrize("scenario", ALL)
def test_engine_has_no_process_left_before_its_nodes_deadline(scene: Any, scenario: str) -> None:
    departure = getattr(scene, scenario)
    assert departure.engine_gone_at() < departure.deadline


@pytest.mark.parametrize("scenario", ALL)
def test_nothing_of_the_node_is_left_after_its_deadline(scene: Any, scenario: str) -> None:
    departure = getattr(scene, scenario)
    (killed,) = entries(scene, "node_killed", departure.instance_id)
    assert killed["left"] == []
    (view,) = [v for v in scene.last_views if v.instance_id == departure.instance_id]
    assert (view.state, view.pids) == ("terminated", [])
    for _, earlier in departure.views:
        assert not any(_runs(pid, departure.address) for pid in earlier.pids)


def _runs(pid: int, address: str) -> bool:
    """Say whether a process of the node still runs; its id may belong to another one by now."""
    try:
        return address in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_node_leaves_the_load_balancer_while_the_control_plane_is_off(scene: Any) -> None:
    departure = scene.control_plane_off
    assert departure.outcome()["trigger"] == "imds"
    assert entries(scene, "command", departure.instance_id) == []
    states = [
        (e["at"], e["state"])
        for e in entries(scene, "target_state", departure.instance_id)
        if e["at"] >= departure.noticed_at
    ]
    left_at, state = states[0]
    assert state == "unhealthy", "its own health check took it out, for nobody deregistered it"
    # It notices within seconds, and two checks of 5 s must fail.
    assert left_at - departure.noticed_at < 16
    sent = [
        target["requests"]
        for at, targets in scene.counts
        for target in targets
        if target["target"] == departure.instance_id and at > left_at
    ]
    assert sent[-1] == sent[0], "no new request after that"
