"""What a node left behind: processes, ports, sockets, locks, memory and files, found without asking it.

Looks at a node from the outside, by /proc and by its folders. Nothing here knows what the agent does, only
what a machine looks like on which nothing of a node runs any more.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from local_aws.nodes.processes import marked_pids

# What stays on a stopped node's disk: what was installed, what was logged, what the unit's last state was.
# Patterns of paths in the node's folder; `*` spans folders.
STAYS = (
    "bin/*",
    "console.log",
    "user-data",
    "root/dev/kmsg",
    "root/etc/*",
    "root/opt/spot-failover/*",
    "root/run/spot-failover-boot.env",
    "root/run/systemd/spot-failover-agent.service.json",
    "root/usr/local/bin/spot-failover-node",
    "root/var/log/journal/*.log",
    # The AWS command line's own cache of the node's temporary credentials and of its endpoints.
    "root/root/.aws/cli/cache/*",
)
_LISTEN, _TIME_WAIT = "0A", "06"
_SHARED = "shared file"
SHARED_FOLDERS = (Path("/tmp"), Path("/dev/shm"))  # noqa: S108 - looked at, never written


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that should be gone; `kind` is process, port, socket, lock, memory, file or shared file."""

    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind} {self.what}"


@dataclass(frozen=True, kw_only=True)
class Before:
    """What was there before the node lived."""

    shared_files: frozenset[str]
    shared_memory: frozenset[str]


def look_before(shared_folders: Sequence[Path] = SHARED_FOLDERS) -> Before:
    """Take note of what other programs have left already."""
    return Before(shared_files=frozenset(_names(shared_folders)), shared_memory=frozenset(_memory_segments()))


def find_leftovers(
    home: Path,
    *,
    mark: str,
    address: str,
    before: Before,
    foreign_ports: Iterable[int] = (),
    shared_folders: Sequence[Path] = SHARED_FOLDERS,
    stays: Sequence[str] = STAYS,
) -> list[Leftover]:
    """Return everything of a node that is still there, sorted; empty: it left nothing.

    `home` is the node's folder, `mark` what its processes carry, `address` its own IPv4 address, on which
    `foreign_ports` belong to what is around it.
    """
    found = [Leftover("process", _process(pid)) for pid in marked_pids(mark)]
    found += [Leftover("port", port) for port in _ports(address, set(foreign_ports))]
    found += [Leftover("socket", name) for name in _bound_sockets(home)]
    found += [Leftover("lock", name) for name in _locks(home)]
    found += [Leftover("memory", name) for name in set(_memory_segments()) - before.shared_memory]
    found += [Leftover("file", name) for name in _files(home) if not _may_stay(name, stays)]
    found += [Leftover(_SHARED, name) for name in set(_names(shared_folders)) - before.shared_files]
    return sorted(found, key=str)


def still_there(leftover: Leftover) -> bool:
    """Return whether a leftover is one after all: what another program passed through /tmp is gone by now."""
    return leftover.kind != _SHARED or Path(leftover.what).exists()


def _may_stay(name: str, stays: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in stays)


def _process(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        words = ""
    return f"{pid} {words.strip()[:120]}"


def _ports(address: str, foreign: set[int]) -> Iterator[str]:
    """Yield the TCP sockets of an address that are not just waiting out their last packets."""
    # proc(5): the address is a hexadecimal number in the machine's byte order, little-endian here.
    wanted = "".join(f"{int(part):02X}" for part in reversed(address.split(".")))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, _, state = line.split()[1:4]
        ip, _, port = local.partition(":")
        if ip == wanted and state != _TIME_WAIT and int(port, 16) not in foreign:
            yield f"{address}:{int(port, 16)} {'listens' if state == _LISTEN else 'is connected'}"


def _bound_sockets(home: Path) -> Iterator[str]:
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        name = line.split(maxsplit=7)[7:]
        if name and _is_inside(Path(name[0]), home):
            yield name[0]


def _locks(home: Path) -> Iterator[str]:
    held = {line.split()[-3].rpartition(":")[2] for line in Path("/proc/locks").read_text().splitlines()}
    for path in _walk(home):
        if str(path.lstat().st_ino) in held:
            yield str(path.relative_to(home))


def _memory_segments() -> Iterator[str]:
    # proc(5), System V shared memory: a key and an id a line.
    for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
        yield f"segment {line.split()[1]}"


def _files(home: Path) -> Iterator[str]:
    for path in _walk(home):
        kind = " (socket)" if stat.S_ISSOCK(path.lstat().st_mode) else ""
        yield f"{path.relative_to(home)}{kind}"


def _walk(home: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(home):
        for name in files:
            yield Path(folder) / name
        for name in folders:
            if (path := Path(folder) / name).is_symlink():
                yield path


def _names(folders: Iterable[Path]) -> Iterator[str]:
    for folder in folders:
        if folder.is_dir():
            yield from (str(path) for path in folder.iterdir())


def _is_inside(path: Path, home: Path) -> bool:
    return path.resolve().is_relative_to(home.resolve())
