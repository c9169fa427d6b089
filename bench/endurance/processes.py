"""The local processes of a run as /proc shows them: what each is, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from local_aws.nodes.processes import NODE_MARK, read_processes
from local_aws.reaper import MARK

_PROC = Path("/proc")
_FUNCTION_CLIENT = "awslambdaric"
_AGENT_PROGRAM = "spot-failover-node"
_ENGINE_MODULES = ("local_aws.engines.emulated_engine", "vllm.entrypoints.openai.api_server")


class Part(StrEnum):
    """What a process is for."""

    SERVER = "local AWS"
    FUNCTION = "function"
    AGENT = "node agent"
    ENGINE = "engine"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment. `started` (ticks since the kernel's start) tells it from a later one."""

    pid: int
    started: int
    part: Part
    name: str
    """The function's package; the node's instance id, for what runs on a node; else empty."""
    memory_bytes: int
    threads: int
    descriptors: int


def read_all(server_pid: int) -> tuple[Reading, ...]:
    """Read the local AWS of that process id and everything that it started, and that still lives."""
    marks = {each.pid: each for each in read_processes(MARK)}
    nodes = {each.pid: each.mark for each in read_processes(NODE_MARK)}
    # The server itself has no mark: it is given to what the server starts.
    mark = next((each.mark for each in marks.values() if each.parent == server_pid and each.mark), None)
    pids = [server_pid, *(pid for pid, each in marks.items() if mark and each.mark == mark)]
    found = (_read(pid, node=nodes.get(pid, ""), is_server=pid == server_pid) for pid in pids)
    return tuple(reading for reading in found if reading is not None)


def _read(pid: int, *, node: str, is_server: bool) -> Reading | None:
    folder = _PROC / str(pid)
    try:
        arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        status = dict(
            line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
        )
        started = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
        descriptors = len(list((folder / "fd").iterdir()))
        memory, threads = status["VmRSS"], status["Threads"]
    except (OSError, KeyError):
        return None  # it ended meanwhile
    part, name = (Part.SERVER, "") if is_server else identify(arguments, node=node)
    return Reading(
        pid=pid,
        started=started,
        part=part,
        name=name,
        memory_bytes=int(memory.split()[0]) * 1024,
        threads=int(threads),
        descriptors=descriptors,
    )


def identify(arguments: list[str], *, node: str) -> tuple[Part, str]:
    """Say what a process is by its command line, and its name. `node` is the mark of the node it runs on."""
    instance_id = node.partition("/")[0]
    if _FUNCTION_CLIENT in arguments:
        return Part.FUNCTION, arguments[-1].partition(".")[0]
    if any(module in arguments for module in _ENGINE_MODULES):
        return Part.ENGINE, instance_id
    if arguments[-1:] == ["run"] and any(Path(each).name == _AGENT_PROGRAM for each in arguments):
        return Part.AGENT, instance_id
    return Part.OTHER, instance_id
