"""The kernel's log, followed for the NVIDIA driver's word that a GPU is lost.

A record of /dev/kmsg is `priority,sequence,microseconds,flags;text` (Linux,
Documentation/ABI/testing/dev-kmsg); the driver writes
`NVRM: Xid (PCI:0000:31:00): 79, ...` (NVIDIA, "Xid Errors").
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import stat
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .log import Log

POLL_SECONDS = 0.2
RECORD_BYTES = 8192
"""The kernel hands out one record a read, and refuses a buffer that is too small for it."""
KEPT_LINES = 20

GPU_LOST_XIDS = frozenset([46, 48, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 151, 155, 156, 158])
"""After these a GPU serves nobody until it is reset or its machine restarted, so the node is replaced.

Those whose immediate action is RESET_GPU, RESTART_BM or RESTART_VM in NVIDIA's Xid catalog
(docs.nvidia.com/deploy/xid-errors), and 48 and 74, whose text there says that only a reset clears them. Every
other Xid concerns the application alone: the engine's own end tells more of it.
"""
_RECOVERY_ACTION_CHANGED = 154
"""Names what the Xids before it call for, as the last of its words."""
_RESET_ACTIONS = re.compile(r"\((?:GPU Reset|Node Reboot) Required\)\s*$|\(Drain and Reset\)\s*$")
_OFF_THE_BUS = re.compile(r"NVRM: .*fallen off the bus")
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([^)]*)\): (\d+)(.*)")
_WORTH_KEEPING = re.compile(r"NVRM|oom-kill|[Oo]ut of memory|Killed process")
_RECORD = re.compile(r"(\d+),\d+,\d+,[^;]*;(.*)")
_KERNEL_PRIORITIES = range(8)
"""Facility 0, the kernel itself; what processes write into its log has another."""


@dataclass(frozen=True)
class GpuFault:
    """A GPU's trouble as the driver tells it; `xid` is None where it names none."""

    xid: int | None
    device: str
    text: str
    lost: bool

    @property
    def reason(self) -> str:
        """What to say of it."""
        return f"GPU lost: {self.text}" if self.lost else self.text


def parse_record(line: str) -> str | None:
    """Return the text of a record of the kernel's own, None for any other line."""
    record = _RECORD.fullmatch(line)
    if record is None or int(record.group(1)) not in _KERNEL_PRIORITIES:
        return None
    return record.group(2)


def parse_fault(text: str) -> GpuFault | None:
    """Return the GPU's trouble that a kernel message tells of, None where it tells of none."""
    xid = _XID.search(text)
    if xid is not None:
        device, code, rest = xid.group(1), int(xid.group(2)), xid.group(3)
        lost = code in GPU_LOST_XIDS or (
            code == _RECOVERY_ACTION_CHANGED and _RESET_ACTIONS.search(rest) is not None
        )
        return GpuFault(code, device, f"Xid {code} on {device}{rest}".strip(), lost)
    if _OFF_THE_BUS.search(text):
        return GpuFault(None, "", text, lost=True)
    return None


class KernelLog(threading.Thread):
    """Follows the kernel's log from its end on, a device or a plain file. Its failure ends nothing else."""

    def __init__(self, path: str, *, on_fault: Callable[[GpuFault], None], log: Log) -> None:
        """An empty path follows nothing."""
        super().__init__(name="kernel-log", daemon=True)
        self._path = path
        self._on_fault = on_fault
        self._log = log
        self._stop_asked = threading.Event()
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)

    def stop(self) -> None:
        """Follow no more."""
        self._stop_asked.set()

    def last_lines(self) -> list[str]:
        """Return the last lines that tell of the GPU or of memory that ran out."""
        return list(self._kept)

    def run(self) -> None:
        """Follow."""
        if not self._path:
            return
        # What stands there when the agent starts is of a time before it; a file that comes later is all new.
        from_end = True
        while not self._stop_asked.is_set():
            try:
                with open(self._path, "rb", buffering=0, opener=_nonblocking) as file:
                    if from_end:
                        os.lseek(file.fileno(), 0, os.SEEK_END)
                    self._follow(file.fileno())
            except FileNotFoundError:
                from_end = False
            except OSError as err:
                self._log.warning("kernel_log_unreadable", path=self._path, error=str(err))
                return
            self._stop_asked.wait(POLL_SECONDS)

    def _follow(self, descriptor: int) -> None:
        """Read what comes, until told to stop or the file was cut short."""
        device = stat.S_ISCHR(os.fstat(descriptor).st_mode)
        rest = b""
        while not self._stop_asked.is_set():
            if device and not select.select([descriptor], [], [], POLL_SECONDS)[0]:
                continue
            chunk = _read(descriptor)
            if not chunk:
                if not device and os.fstat(descriptor).st_size < os.lseek(descriptor, 0, os.SEEK_CUR):
                    os.lseek(descriptor, 0, os.SEEK_SET)
                self._stop_asked.wait(POLL_SECONDS)
                continue
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line.decode("utf-8", "replace"))

    def _take(self, line: str) -> None:
        text = parse_record(line)
        if text is None:
            return
        if _WORTH_KEEPING.search(text):
            self._kept.append(text)
        fault = parse_fault(text)
        if fault is not None:
            self._log.warning("gpu_fault", xid=fault.xid, device=fault.device, lost=fault.lost, text=text)
            self._on_fault(fault)


def _nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(descriptor: int) -> bytes:
    # EPIPE: the kernel overwrote what had not been read yet, and goes on with what it still has.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        return os.read(descriptor, RECORD_BYTES)
    return b""
