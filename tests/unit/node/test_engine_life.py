"""An engine that fails: started again or given up, what the node tells of it, and drains in each state."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

XID_79 = "NVRM: Xid (PCI:0000:31:00): 79, pid=4711, GPU has fallen off the bus."
XID_13 = "NVRM: Xid (PCI:0000:31:00): 13, pid=4711, name=VLLM, Graphics Exception"


def test_a_crashed_engine_is_started_again_and_its_orphaned_core_is_gone(
    kit: Any, make_node: Any, aws: Any
) -> None:
    node = make_node()
    node.wait_ready()
    pids = node.engine_pids()
    assert len(pids) == 3, "guard, server and core"
    os.kill(node.server_pid(), signal.SIGKILL)
    recovering = node.reaches("recovering")
    assert recovering["reason"] == "the engine ended by itself with status 137; it is started again in 1 s"
    assert node.health() == 503
    again = node.reaches("ready")
    assert not kit.alive(pids)
    assert again["engine"]["restarts"] == 1
    assert again["engine"]["last_failure"]["cause"] == "crashed"
    assert not set(pids) & set(node.engine_pids())
    (failure,) = node.logged("engine_failed")
    assert (failure["final"], failure["restarts"]) == (False, 0)
    (cleared,) = node.logged("engine_cleared_away")
    assert set(cleared["left"]["pids"]) <= set(pids)
    # Neither the launch nor the boot ends a second time.
    kit.eventually(lambda: node.logged("boot_ended"))
    assert len(aws.calls) == 1


def test_an_engine_that_crashes_too_often_leaves_a_node_that_answers_for_itself(
    kit: Any, make_node: Any, aws: Any
) -> None:
    node = make_node(RESTART_LIMIT=1)
    node.wait_ready()
    kit.eventually(lambda: node.status()["hook"]["result"] == "completed")
    os.kill(node.server_pid(), signal.SIGKILL)
    node.reaches("recovering")
    node.reaches("ready")
    node.fail("exit")
    failed = node.reaches("failed")
    assert failed["reason"].startswith("the engine ended by itself with status 1; that was failure 2")
    assert node.health() == 503
    kit.eventually(lambda: aws.calls_with("set-instance-health"))
    kit.eventually(lambda: node.status()["replacement"]["result"] == "asked")
    diagnosis = kit.eventually(lambda: node.status()["diagnosis"])
    assert diagnosis["engine"]["restarts"] == 1
    assert diagnosis["disk"]["free_bytes"] > 0
    assert [entry["final"] for entry in node.logged("engine_failed")] == [False, True]
    outcome = node.drain(seconds=30)
    assert outcome["seconds"] < 2
    assert (outcome["engine_exit"], outcome["cut"], outcome["outcome"]) == ("already_stopped", 0, "drained")
    assert node.status()["state"] == "failed"
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(timeout=10) == 0
    assert len(aws.calls_with("set-instance-health")) == 1


def test_an_engine_that_is_alive_but_answers_nothing_is_killed_and_started_again(
    kit: Any, make_node: Any
) -> None:
    node = make_node(HANG_SECONDS=1, PROBE_SECONDS=0.2)
    node.wait_ready()
    pids = node.engine_pids()
    node.fail("hang")
    lost = node.complete(10)
    recovering = node.reaches("recovering")
    assert "the engine is alive but answered nothing for" in recovering["reason"]
    again = node.reaches("ready")
    assert again["engine"]["last_failure"]["cause"] == "hung"
    assert not kit.alive(pids)
    assert lost.exception(timeout=5)
    # What the failure took along is not for the drain to answer for.
    assert node.drain(seconds=30)["cut"] == 0


def test_an_engine_stopped_in_its_tracks_hangs_too(kit: Any, make_node: Any) -> None:
    node = make_node(HANG_SECONDS=0.6, PROBE_SECONDS=0.2)
    node.wait_ready()
    pids = node.engine_pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    node.reaches("recovering")
    node.reaches("ready")
    assert not kit.alive(pids)


def test_a_node_that_lost_its_gpu_fails_at_once_and_is_not_started_again(
    kit: Any, make_node: Any, aws: Any
) -> None:
    node = make_node()
    node.kernel_log.touch()
    node.wait_ready()
    kit.eventually(lambda: node.status()["hook"]["result"] == "completed")
    pids = node.engine_pids()
    node.kernel_says(XID_13)
    kit.eventually(lambda: node.logged("gpu_fault"))
    assert node.status()["state"] == "ready"
    node.kernel_says(XID_79)
    failed = node.reaches("failed", within=5)
    assert failed["reason"].startswith("GPU lost: Xid 79 on 0000:31:00")
    kit.eventually(lambda: not kit.alive(pids), within=5)
    kit.eventually(lambda: aws.calls_with("--health-status Unhealthy"))
    diagnosis = kit.eventually(lambda: node.status()["diagnosis"])
    assert diagnosis["kernel_log"] == [XID_13, XID_79]
    assert node.status()["engine"]["restarts"] == 0
    (logged,) = node.logged("diagnosis")
    assert logged["diagnosis"] == diagnosis


def test_a_gpu_lost_during_the_boot_abandons_the_launch_and_asks_for_nothing_more(
    kit: Any, make_node: Any, aws: Any
) -> None:
    node = make_node(start_seconds=60)
    node.kernel_log.touch()
    kit.eventually(node.engine_pids)
    node.kernel_says(XID_79)
    node.reaches("failed", within=5)
    kit.eventually(lambda: node.status()["hook"]["result"] == "completed")
    kit.eventually(lambda: node.status()["diagnosis"])
    assert [call.split()[-1] for call in aws.calls] == ["ABANDON"]
    (failure,) = node.logged("boot_failed")
    assert failure["phase"] == "engine"


def test_a_boot_that_stalls_fails_with_the_phases_name_and_abandons_its_launch(
    kit: Any, make_node: Any, aws: Any
) -> None:
    node = make_node(start_seconds=60, PHASE_LIMITS=json.dumps({"engine": 0.5}))
    failed = node.reaches("failed")
    assert failed["reason"].startswith("stalled in engine: 0.")
    kit.eventually(lambda: node.status()["diagnosis"])
    assert not kit.alive(node.engine_pids())
    kit.eventually(lambda: [call.split()[-1] for call in aws.calls] == ["ABANDON"])
    assert node.process.poll() is None
    (metrics,) = [entry for entry in node.log() if "_aws" in entry]
    assert metrics["boot.failed"] == 1
    assert metrics["boot.engine.seconds"] >= 0.5
    assert "boot.seconds" not in metrics, "a boot that failed has no end to measure"


def test_an_engine_that_is_never_ready_fails_the_boot_in_time(kit: Any, make_node: Any) -> None:
    node = make_node(start_seconds=60, START_LIMIT_SECONDS=0.5)
    assert node.reaches("failed")["reason"] == "stalled in engine: not ready within 0.5 s"


def test_a_boot_without_a_hook_that_fails_asks_for_a_replacement(kit: Any, make_node: Any, aws: Any) -> None:
    node = make_node(engine=["/no/such/engine"], RESTART_LIMIT=0, LIFECYCLE_HOOK="")
    failed = node.reaches("failed")
    assert "status" in failed["reason"]
    kit.eventually(lambda: aws.calls_with("set-instance-health"))
    (failure,) = node.logged("boot_failed")
    assert failure["phase"] == "engine"


def test_a_boot_is_told_phase_by_phase_as_it_happens_and_as_a_whole(kit: Any, make_node: Any) -> None:
    now = time.time()
    node = make_node(BOOTED_AT=now - 20, USER_DATA_STARTED_AT=now - 12)
    node.wait_ready()
    (ended,) = kit.eventually(lambda: node.logged("boot_ended"))
    phases = [each["phase"] for each in ended["boot"]["phases"]]
    assert phases[:2] == ["kernel", "user_data"]
    assert phases[-3:] == ["engine", "warm_up", "in_service"]
    assert [entry["phase"] for entry in node.logged("phase_ended")] == phases
    assert ended["boot"]["path"]["kernel"] == pytest.approx(8, abs=0.01)
    metrics = kit.eventually(lambda: [entry for entry in node.log() if "_aws" in entry])[0]
    assert metrics["boot.seconds"] == pytest.approx(sum(ended["boot"]["path"].values()), abs=0.2)
    assert metrics["boot.kernel.seconds"] == pytest.approx(8, abs=0.01)
    assert node.status()["boot"] == ended["boot"]


def test_a_drain_stops_a_restart_that_is_due(kit: Any, make_node: Any) -> None:
    node = make_node()
    node.wait_ready()
    node.fail("exit")
    node.reaches("recovering")
    outcome = node.drain(seconds=30)
    assert outcome["seconds"] < 2
    assert (outcome["in_flight_at_start"], outcome["cut"], outcome["outcome"]) == (0, 0, "drained")
    time.sleep(1.2)
    assert node.status()["state"] == "drained"
    assert not node.engine_pids()


def test_a_drain_by_imds_of_a_failed_node_ends_at_once(kit: Any, make_node: Any, imds: Any) -> None:
    node = make_node(engine=["/no/such/engine"], RESTART_LIMIT=0)
    node.reaches("failed")
    imds.give_notice(seconds=30)
    outcome = kit.eventually(lambda: (node.status()["drain"] or {}).get("outcome"))
    assert (outcome["trigger"], outcome["cut"], outcome["outcome"]) == ("imds", 0, "drained")


def test_a_drain_while_the_engine_hangs_cuts_what_is_in_flight_before_the_deadline(
    kit: Any, make_node: Any
) -> None:
    node = make_node(HANG_SECONDS=60)
    node.wait_ready()
    node.complete(30000)
    kit.eventually(lambda: node.in_flight() == 1)
    node.fail("hang")
    deadline = time.time() + 3
    outcome = node.drain(seconds=3)
    assert time.time() < deadline
    assert (outcome["engine_exit"], outcome["cut"], outcome["outcome"]) == ("killed", 1, "cut")


def test_probes_are_no_requests_of_a_drain(kit: Any, make_node: Any) -> None:
    node = make_node(PROBE_SECONDS=0.01)
    node.wait_ready()
    time.sleep(0.3)
    outcome = node.drain(seconds=30)
    assert (outcome["in_flight_at_start"], outcome["finished"], outcome["cut"]) == (0, 0, 0)


def test_a_diagnosis_can_be_asked_for_at_any_time(kit: Any, make_node: Any) -> None:
    node = make_node()
    node.wait_ready()
    done = node.cli("diagnose")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["status"]["state"] == "ready"
    assert told["now"].keys() == {"boot", "engine", "engine_log", "kernel_log", "disk", "gpus"}
