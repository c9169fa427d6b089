"""The life of a node, played with the agent's own process over the emulated engine."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any


def test_a_node_is_unready_until_a_completion_was_answered_and_then_tells_its_group(
    kit: Any, make_node: Any, aws: Any
) -> None:
    node = make_node(start_seconds=1.5)
    kit.eventually(lambda: node.health() == 503, what="answering while the engine starts")
    told = kit.eventually(lambda: (s := node.status())["reason"] == "the engine is starting" and s)
    assert told["state"] == "starting"
    node.wait_ready()
    kit.eventually(lambda: node.status()["hook"]["result"] == "completed")
    assert aws.calls == [
        "--region eu-west-1 autoscaling complete-lifecycle-action "
        "--auto-scaling-group-name spot-failover-chat "
        f"--lifecycle-hook-name spot-failover-ready --instance-id {kit.INSTANCE_ID} "
        "--lifecycle-action-result CONTINUE"
    ]
    assert node.status()["engine"]["start_seconds"] >= 0.5


def test_running_requests_finish_before_the_engine_stops(kit: Any, make_node: Any) -> None:
    node = make_node()
    node.wait_ready()
    pids = node.engine_pids()
    requests = [node.complete(300) for _ in range(3)]
    kit.eventually(lambda: node.in_flight() == 3)
    outcome = node.drain(seconds=30)
    assert [request.result()[0] for request in requests] == [200, 200, 200]
    assert (
        outcome.items()
        >= {
            "instance_id": kit.INSTANCE_ID,
            "trigger": "command",
            "cut": 0,
            "engine_exit": "graceful",
            "outcome": "drained",
        }.items()
    )
    # On a busy machine the command may find some of them answered already.
    assert 1 <= outcome["in_flight_at_start"] == outcome["finished"]
    assert not kit.alive(pids)
    assert node.status()["state"] == "drained"
    assert node.process.poll() is None


def test_a_draining_node_is_unready_at_once_but_still_serves_for_the_settle_time(
    kit: Any, make_node: Any
) -> None:
    node = make_node(SETTLE_SECONDS=2.5)
    node.wait_ready()
    drain = node.drain_later(seconds=30)
    kit.eventually(lambda: node.status()["state"] == "draining")
    assert node.health() == 503
    late = node.complete(20)
    assert late.result()[0] == 200
    outcome = drain.result()
    assert outcome["seconds"] >= 2.5
    assert (outcome["finished"], outcome["cut"]) == (1, 0)


def test_imds_alone_drains_the_node(kit: Any, make_node: Any, imds: Any) -> None:
    node = make_node()
    node.wait_ready()
    request = node.complete(100)
    deadline = imds.give_notice(seconds=30)
    outcome = kit.eventually(lambda: (node.status()["drain"] or {}).get("outcome"))
    assert request.result()[0] == 200
    assert (outcome["trigger"], outcome["outcome"]) == ("imds", "drained")
    assert outcome["deadline"] == kit.format_utc(deadline)


def test_whoever_asks_second_joins_the_drain_and_gets_its_outcome(
    kit: Any, make_node: Any, imds: Any
) -> None:
    node = make_node()
    node.wait_ready()
    first, second = node.drain_later(seconds=30), node.drain_later(seconds=40)
    imds.give_notice(seconds=30)
    assert first.result() == second.result() == node.drain(seconds=20)
    assert node.events().count("drain_started") == 1


def test_requests_that_cannot_finish_are_cut_before_the_deadline_and_nothing_is_left(
    kit: Any, make_node: Any
) -> None:
    node = make_node()
    node.wait_ready()
    pids = node.engine_pids()
    requests = [node.complete(30000) for _ in range(2)]
    kit.eventually(lambda: node.in_flight() == 2)
    deadline = time.time() + 3
    outcome = node.drain(seconds=3)
    assert time.time() < deadline
    assert not kit.alive(pids)
    assert outcome.items() >= {"cut": 2, "finished": 0, "engine_exit": "killed", "outcome": "cut"}.items()
    wait(requests, timeout=5)
    assert all(request.exception() for request in requests)


def test_an_earlier_deadline_tightens_a_drain_and_a_later_one_does_not_loosen_it(
    kit: Any, make_node: Any, imds: Any
) -> None:
    node = make_node()
    node.wait_ready()
    node.complete(30000)
    kit.eventually(lambda: node.in_flight() == 1)
    first = node.drain_later(seconds=60)
    kit.eventually(lambda: node.status()["drain"])
    tight = node.drain_later(seconds=4)
    kit.eventually(lambda: "drain_tightened" in node.events())
    started = time.time()
    late = node.drain_later(seconds=90)
    imds.give_notice(seconds=80)
    assert first.result()["outcome"] == "cut"
    assert time.time() - started < 4
    assert tight.result() == late.result() == first.result()


def test_an_engine_that_answers_nothing_cannot_hold_the_drain_up(kit: Any, make_node: Any) -> None:
    node = make_node(DEADLINE_MARGIN_SECONDS=2)
    node.wait_ready()
    node.complete(30000)
    kit.eventually(lambda: node.in_flight() == 1)
    pids = node.engine_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.time() + 4
    outcome = node.drain(seconds=4)
    assert time.time() < deadline
    assert outcome.items() >= {"in_flight_at_start": None, "cut": None, "outcome": "cut"}.items()
    assert not kit.alive(pids)


def test_a_drain_during_start_kills_the_engine_without_a_sigterm(kit: Any, make_node: Any, aws: Any) -> None:
    node = make_node(start_seconds=60)
    kit.eventually(node.health)
    pids = kit.eventually(node.engine_pids)
    outcome = node.drain(seconds=30)
    assert outcome["seconds"] < 2
    assert (
        outcome.items() >= {"in_flight_at_start": 0, "finished": 0, "cut": 0, "engine_exit": "killed"}.items()
    )
    assert not kit.alive(pids)
    # The group need not wait for the hook's timeout to launch another.
    kit.eventually(lambda: [call.split()[-1] for call in aws.calls] == ["ABANDON"])


def test_sigterm_drains_and_then_ends_the_agent(kit: Any, make_node: Any) -> None:
    node = make_node()
    node.wait_ready()
    pids = node.engine_pids()
    request = node.complete(100)
    kit.eventually(lambda: node.in_flight() == 1)
    node.process.send_signal(signal.SIGTERM)
    assert request.result()[0] == 200
    assert node.process.wait(timeout=10) == 0
    (outcome,) = [entry["outcome"] for entry in node.log() if entry["event"] == "drain_finished"]
    assert (outcome["trigger"], outcome["outcome"]) == ("signal", "drained")
    assert not kit.alive(pids)
    assert not Path(node.environment["SPOT_FAILOVER_SOCKET"]).exists()


def test_an_agent_that_is_killed_leaves_no_engine_behind(kit: Any, make_node: Any) -> None:
    node = make_node()
    node.wait_ready()
    pids = node.engine_pids()
    node.process.kill()
    kit.eventually(lambda: not kit.alive(pids), within=3)


def test_a_new_agent_takes_over_the_socket_of_one_that_was_killed(kit: Any, make_node: Any) -> None:
    first = make_node()
    first.wait_ready()
    second = make_node()
    assert second.process.wait(timeout=10) == 1, "one agent a node"
    first.process.kill()
    first.process.wait()
    third = make_node()
    third.wait_ready()
    assert third.drain(seconds=30)["outcome"] == "drained"


def test_the_socket_is_for_root_alone_and_its_path_may_be_long(
    kit: Any, make_node: Any, tmp_path: Path
) -> None:
    path = tmp_path / ("d" * 120) / "agent.sock"
    node = make_node(SOCKET=path)
    node.wait_ready()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(node.cli("status").stdout)["state"] == "ready"


def test_a_command_that_makes_no_sense_or_is_not_for_this_node_drains_nothing(
    kit: Any, make_node: Any
) -> None:
    node = make_node()
    node.wait_ready()
    other = "i-0fedcba9876543210@2026-11-23T13:40:00Z"
    for deadlines in ("", kit.INSTANCE_ID, f"{kit.INSTANCE_ID}@soon", other):
        done = node.cli("drain", "--deadlines", deadlines)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("spot-failover-node: ")
    assert node.health() == 200


def test_every_log_line_names_fleet_and_instance(kit: Any, make_node: Any) -> None:
    node = make_node()
    node.wait_ready()
    node.drain(seconds=30)
    known = [entry for entry in node.log() if "instance_id" in entry]
    assert {entry["fleet"] for entry in node.log()} == {"chat"}
    assert {entry["event"] for entry in known} >= {
        "ready",
        "drain_started",
        "engine_terminated",
        "drain_finished",
    }


def test_http_tells_the_health_and_nothing_else(make_node: Any) -> None:
    node = make_node()
    node.wait_ready()
    told = {"state": "ready", "reason": "the engine answered a completion"}
    assert node.http("GET", node.health_port, "/healthz") == (200, told)
    for path in ("/status", "/", "/healthz/"):
        assert node.http("GET", node.health_port, path) == (404, {"error": "only /healthz is here"})
