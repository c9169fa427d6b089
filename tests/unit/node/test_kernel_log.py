"""A lost GPU, found in the kernel's log among what only concerns the application."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_node_bootstrap.node_agent import kernel_log
from gpu_node_bootstrap.node_agent.kernel_log import (
    KEPT_LINES,
    GpuFault,
    KernelLog,
    parse_fault,
    parse_record,
)
from gpu_node_bootstrap.node_agent.log import Log

LOST = "NVRM: Xid (PCI:0000:00:1e): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."


def record(text: str, *, priority: int = 3) -> str:
    return f"{priority},1047,5140900,-;{text}\n"


@pytest.mark.parametrize("xid", [48, 62, 64, 74, 79, 95, 119, 120, 140, 143])
def test_a_gpu_that_only_a_reset_brings_back_is_lost(xid: int) -> None:
    fault = parse_fault(f"NVRM: Xid (PCI:0000:00:1e): {xid}, pid=4711, name=VLLM, more")
    assert fault is not None
    assert (fault.xid, fault.device, fault.lost) == (xid, "PCI:0000:00:1e".partition(":")[2], True)
    assert fault.reason == f"GPU lost: Xid {xid} on 0000:00:1e, pid=4711, name=VLLM, more"


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 63, 92, 94, 137, 999])
def test_a_fault_of_the_application_leaves_the_gpu_as_it_is(xid: int) -> None:
    fault = parse_fault(f"NVRM: Xid (PCI:0000:00:1e): {xid}, pid=4711, name=VLLM, more")
    assert fault is not None
    assert (fault.xid, fault.lost) == (xid, False)


@pytest.mark.parametrize(
    ("action", "lost"),
    [
        ("0x0 (None)", False),
        ("0x1 (GPU Reset Required)", True),
        ("0x2 (Node Reboot Required)", True),
        ("0x3 (Drain P2P)", False),
        ("0x4 (Drain and Reset)", True),
    ],
)
def test_the_drivers_own_word_on_recovery_is_taken(action: str, lost: bool) -> None:
    text = f"NVRM: Xid (PCI:0000:00:1e): 154, GPU recovery action changed from 0x0 (None) to {action}"
    fault = parse_fault(text)
    assert fault is not None
    assert fault.lost is lost


def test_a_gpu_that_is_off_the_bus_is_lost_whatever_its_number() -> None:
    fault = parse_fault("NVRM: GPU 0000:00:1e.0: GPU has fallen off the bus.")
    assert fault is not None
    assert fault.lost


@pytest.mark.parametrize("text", ["", "NVRM: loading NVIDIA UNIX Kernel Module", "Xid 79", "eth0: link up"])
def test_other_messages_are_no_faults(text: str) -> None:
    assert parse_fault(text) is None


def test_only_the_kernel_itself_is_believed() -> None:
    assert parse_record(record(LOST).rstrip()) == LOST
    # Facility 1: a process wrote it into the kernel's log.
    assert parse_record(record(LOST, priority=11).rstrip()) is None
    assert parse_record(" SUBSYSTEM=pci") is None


@given(st.text())
def test_any_line_is_read_or_passed_over(text: str) -> None:
    parse_record(text)
    parse_fault(text)


class Followed:
    """A kernel log that is being followed."""

    def __init__(self, path: Path) -> None:
        self.faults: list[GpuFault] = []
        self.follower = KernelLog(str(path), on_fault=self.faults.append, log=Log(stream=io.StringIO()))
        self.follower.start()

    def close(self) -> None:
        self.follower.stop()
        self.follower.join(timeout=2)
        assert not self.follower.is_alive()


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Followed]]:
    monkeypatch.setattr(kernel_log, "POLL_SECONDS", 0.02)
    followed: list[Followed] = []

    def begin(path: Path) -> Followed:
        followed.append(Followed(path))
        # Let it find the log's end before anything new comes.
        time.sleep(0.1)
        return followed[-1]

    yield begin
    for each in followed:
        each.close()


def test_what_was_there_before_is_passed_over_and_what_comes_is_taken_record_by_record(
    kit: Any, tmp_path: Path, follow: Any
) -> None:
    path = tmp_path / "kmsg"
    path.write_text(record(LOST))
    followed = follow(path)
    with path.open("a", buffering=1) as log:
        log.write(record("NVRM: Xid (PCI:0000:00:1e): 31, pid=1")[:20])
        time.sleep(0.1)
        log.write(record("NVRM: Xid (PCI:0000:00:1e): 31, pid=1")[20:])
        log.write(" DEVICE=+pci:0000:00:1e.0\n")
    kit.eventually(lambda: followed.faults)
    assert [(fault.xid, fault.lost) for fault in followed.faults] == [(31, False)]


def test_a_log_that_comes_late_or_is_begun_anew_is_followed_from_its_beginning(
    kit: Any, tmp_path: Path, follow: Any
) -> None:
    path = tmp_path / "kmsg"
    followed = follow(path)
    path.write_text(record("something long enough to be cut short") + record(LOST))
    kit.eventually(lambda: len(followed.faults) == 1)
    path.write_text(record(LOST))
    kit.eventually(lambda: len(followed.faults) == 2)


def test_the_last_lines_on_gpu_and_memory_are_kept(kit: Any, tmp_path: Path, follow: Any) -> None:
    path = tmp_path / "kmsg"
    path.touch()
    followed = follow(path)
    oom = "Out of memory: Killed process 4711 (VLLM::EngineCor)"
    noise = [record(f"NVRM: line {number}") + record("eth0: link up") for number in range(KEPT_LINES + 5)]
    with path.open("a") as log:
        log.write("".join(noise) + record(oom))
    kit.eventually(lambda: oom in followed.follower.last_lines())
    kept = followed.follower.last_lines()
    assert len(kept) == KEPT_LINES
    assert kept[-2] == f"NVRM: line {KEPT_LINES + 4}"


def test_a_log_that_cannot_be_read_is_let_be(tmp_path: Path) -> None:
    stream = io.StringIO()
    follower = KernelLog(str(tmp_path), on_fault=lambda _fault: None, log=Log(stream=stream))
    follower.start()
    follower.join(timeout=2)
    assert not follower.is_alive()
    assert "kernel_log_unreadable" in stream.getvalue()


def test_the_kernels_own_device_is_followed_and_let_go(follow: Any) -> None:
    if not os.access("/dev/kmsg", os.R_OK):
        pytest.skip("no readable /dev/kmsg on this machine")
    followed = follow(Path("/dev/kmsg"))
    assert followed.follower.is_alive()
