"""Unpacks an archive of plain files, and nothing else that an archive can do."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import Callable

from .errors import CommandError

MOST_BYTES = 8 * 1024**3
MOST_FILES = 200_000
CHUNK_BYTES = 1024 * 1024


class ArchiveError(CommandError):
    """The archive is broken, or holds what must not be unpacked."""


def unpack(archive: Path, into: Path, *, stopped: Callable[[], bool], most_bytes: int = MOST_BYTES) -> int:
    """Unpack into a new folder; return the bytes. Raises ArchiveError, and what `stopped` raises.

    `stopped` is asked before each piece of each file, so that no large one holds up whoever wants an end.
    tarfile's own filter for this came to Python 3.9 in a late patch, so it is not to be relied on.
    """
    size = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for count, member in enumerate(tar):
                size += member.size
                if size > most_bytes or count >= MOST_FILES:
                    raise ArchiveError("the archive holds more than a compile cache would")
                _unpack_member(tar, member, into, stopped)
    except (tarfile.TarError, OSError, EOFError, ValueError) as err:
        raise ArchiveError(f"the archive is broken: {err}") from err
    return size


def _unpack_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, into: Path, stopped: Callable[[], bool]
) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise ArchiveError(f"the archive holds a path that leads out: {member.name!r}")
    target = into / path
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    if not member.isreg():
        raise ArchiveError(f"the archive holds what is no plain file: {member.name!r}")
    content = tar.extractfile(member)
    assert content is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name that comes twice would be a way to write through what the first one made.
    mode = 0o755 if member.mode & 0o100 else 0o644
    with content, open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        while not stopped():
            chunk = content.read(CHUNK_BYTES)
            if not chunk:
                return
            file.write(chunk)
    raise ArchiveError("stopped")
