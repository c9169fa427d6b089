"""What is to be known of a node that failed: gathered in seconds, bounded in size, whatever hangs."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue

PART_SECONDS = 5.0
"""For all parts, gathered side by side: what asks for a lost GPU may hang for good."""
LONGEST_LINE = 400
MOST_LINES = 50
GPU_QUERY = (
    "name,driver_version,memory.used,memory.total,temperature.gpu,ecc.errors.uncorrected.volatile.total"
)

Part = Callable[[], object]


def collect(parts: Mapping[str, Part], *, within_seconds: float = PART_SECONDS) -> dict[str, object]:
    """Return what each part says, or why it says nothing. Never raises, nor takes longer than it may."""
    ends_at = time.monotonic() + within_seconds
    answers = {name: _begin(part) for name, part in parts.items()}
    return {name: _answer(queue, ends_at, within_seconds) for name, queue in answers.items()}


def _begin(part: Part) -> SimpleQueue[object]:
    answer: SimpleQueue[object] = SimpleQueue()

    def gather() -> None:
        try:
            answer.put(part())
        except Exception as err:
            answer.put(f"failed: {err!r}"[:LONGEST_LINE])

    # A thread that hangs is left behind: it holds up nobody, and ends with the agent.
    threading.Thread(target=gather, name="diagnosis", daemon=True).start()
    return answer


def _answer(queue: SimpleQueue[object], ends_at: float, within_seconds: float) -> object:
    try:
        return queue.get(timeout=max(0.0, ends_at - time.monotonic()))
    except Empty:
        return f"no answer within {within_seconds:g} s"


def bounded(lines: list[str]) -> list[str]:
    """Return the last lines, each cut to a length: a log event has a limit, and a reader too."""
    return [line[:LONGEST_LINE] for line in lines[-MOST_LINES:]]


def disk(path: str) -> dict[str, object]:
    """Return the space of the file system that a path is on, or will be on. Raises OSError."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    usage = shutil.disk_usage(path)
    return {"path": path, "free_bytes": usage.free, "total_bytes": usage.total}


def gpus() -> object:
    """Return what the driver says of each GPU. Raises OSError or subprocess.SubprocessError."""
    if shutil.which("nvidia-smi") is None:
        return "no nvidia-smi on this node"
    asked = subprocess.run(
        ["nvidia-smi", f"--query-gpu={GPU_QUERY}", "--format=csv,noheader"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PART_SECONDS,
        check=False,
    )
    return bounded(asked.stdout.splitlines())
