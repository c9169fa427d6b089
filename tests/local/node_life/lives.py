"""Lives of a node on real vLLM, each with a failure in it, and all that was seen of them."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.local.node_life.real_node import RealNode, wait_for

HANG_SECONDS = 8.0
KERNEL_RECORD = "{:d},1,{:d},-;{}\n"


@dataclass(frozen=True)
class Crashed:
    """The API server was killed, its core lived on; then the core of the next engine was killed."""

    orphan: int
    unready: dict[str, Any]
    health_while_unready: int
    first_again: dict[str, Any]
    processes_again: dict[int, str]
    second_again: dict[str, Any]
    outcome: dict[str, Any]
    tokens: int
    left: dict[int, str]
    exits: list[dict[str, Any]]


@dataclass(frozen=True)
class Hung:
    """The engine was stopped in its tracks, twice; the second time the node got its notice as well."""

    stopped: set[int]
    busy_restarts: int
    seconds_to_unready: float
    unready: dict[str, Any]
    again: dict[str, Any]
    processes_again: dict[int, str]
    deadline: float
    drained_at: float
    drained: dict[str, Any]
    left: dict[int, str]


@dataclass(frozen=True)
class GpuLost:
    """The kernel told of a fault of the application, and then of a GPU that fell off the bus."""

    after_harmless: dict[str, Any]
    seconds_to_failed: float
    failed: dict[str, Any]
    health: int
    left: dict[int, str]
    asked: list[str]
    outcome: dict[str, Any]
    exit_status: int | None
    alive_before_end: bool


@dataclass(frozen=True)
class NoticedWhileStarting:
    """The notice came while vLLM was importing, when SIGTERM could deadlock it."""

    seconds_to_drained: float
    drained: dict[str, Any]
    left: dict[int, str]
    abandoned: list[str]


@dataclass(frozen=True)
class NeverStarts:
    """vLLM refuses its model each time."""

    failed: dict[str, Any]
    boot_failed: list[dict[str, Any]]
    abandoned: list[str]
    left: dict[int, str]


def crash(folder: Path) -> Crashed:
    changes = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    with RealNode(folder, number=11, engine_environment_changes=changes) as node:
        node.wait_state("ready")
        orphan = node.engine_core()
        os.kill(node.api_server(), signal.SIGKILL)
        unready = node.wait_state("recovering", seconds=10)
        health = node.health()
        first_again = node.wait_state("ready")
        again = node.engine_processes()
        os.kill(node.engine_core(), signal.SIGKILL)
        node.wait_state("recovering", seconds=30)
        second_again = node.wait_state("ready")
        request = node.complete(400)
        outcome = node.drain(seconds=60)
        return Crashed(
            orphan=orphan,
            unready=unready,
            health_while_unready=health,
            first_again=first_again,
            processes_again=again,
            second_again=second_again,
            outcome=outcome,
            tokens=request.result(timeout=30),
            left=node.engine_processes(),
            exits=node.events("engine_failed"),
        )


def hang(folder: Path) -> Hung:
    with RealNode(folder, number=12, HANG_SECONDS=HANG_SECONDS, PROBE_SECONDS=1) as node:
        node.wait_state("ready")
        # Busy for longer than the limit: slow is not dead.
        busy = [node.complete(6000, timeout=90) for _ in range(8)]
        for each in busy:
            each.result()
        busy_restarts = node.status()["engine"]["restarts"]
        stopped = set(node.engine_processes())
        node.signal_engine(signal.SIGSTOP)
        began = time.monotonic()
        unready = node.wait_state("recovering", seconds=HANG_SECONDS + 15)
        seconds = time.monotonic() - began
        again = node.wait_state("ready")
        processes_again = node.engine_processes()
        node.signal_engine(signal.SIGSTOP)
        deadline = node.notice(seconds=HANG_SECONDS - 1)
        drained = node.wait_state("drained", seconds=HANG_SECONDS + 5)
        return Hung(
            stopped=stopped,
            busy_restarts=busy_restarts,
            seconds_to_unready=seconds,
            unready=unready,
            again=again,
            processes_again=processes_again,
            deadline=deadline,
            drained_at=time.time(),
            drained=drained,
            left=node.engine_processes(),
        )


def lose_gpu(folder: Path) -> GpuLost:
    with RealNode(folder, number=13) as node:
        node.wait_state("ready")
        _kernel_says(node, "NVRM: Xid (PCI:0000:31:00): 13, pid=4711, name=VLLM, Graphics Exception")
        time.sleep(2)
        after_harmless = node.status()
        _kernel_says(node, "NVRM: Xid (PCI:0000:31:00): 79, pid=4711, GPU has fallen off the bus.")
        began = time.monotonic()
        failed = node.wait_state("failed", seconds=15)
        seconds = time.monotonic() - began
        asked = wait_for(
            "request for a replacement",
            lambda: node.aws_calls("set-instance-health", "Unhealthy"),
            seconds=15,
        )
        health, left = node.health(), node.engine_processes()
        outcome = node.drain(seconds=30)
        assert node.agent is not None
        alive = node.agent.poll() is None
        node.agent.send_signal(signal.SIGTERM)
        return GpuLost(
            after_harmless=after_harmless,
            seconds_to_failed=seconds,
            failed=failed,
            health=health,
            left=left,
            asked=asked,
            outcome=outcome,
            exit_status=node.agent.wait(timeout=30),
            alive_before_end=alive,
        )


def notice_while_starting(folder: Path) -> NoticedWhileStarting:
    with RealNode(folder, number=14) as node:
        wait_for("vLLM process", node.engine_processes, seconds=20)
        time.sleep(5)  # past the interpreter's own start, amid vLLM's imports
        assert node.status()["state"] == "starting"
        node.notice(seconds=60)
        began = time.monotonic()
        drained = node.wait_state("drained", seconds=30)
        return NoticedWhileStarting(
            seconds_to_drained=time.monotonic() - began,
            drained=drained,
            left=node.engine_processes(),
            abandoned=wait_for("abandoned launch", lambda: node.aws_calls("ABANDON"), seconds=15),
        )


def never_start(folder: Path) -> NeverStarts:
    with RealNode(folder, number=15, model=folder / "no-such-model", RESTART_LIMIT=1) as node:
        failed = node.wait_state("failed")
        return NeverStarts(
            failed=failed,
            boot_failed=wait_for("word of the failed boot", lambda: node.events("boot_failed"), seconds=20),
            abandoned=wait_for("abandoned launch", lambda: node.aws_calls("ABANDON"), seconds=15),
            left=node.engine_processes(),
        )


def _kernel_says(node: RealNode, text: str) -> None:
    with node.kernel_log.open("a") as log:
        log.write(KERNEL_RECORD.format(3, int(time.monotonic() * 1e6), text))
