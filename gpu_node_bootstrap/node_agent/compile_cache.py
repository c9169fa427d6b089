"""What vLLM compiled once, kept in S3 for the next node of the same engine, GPU, model and arguments.

vLLM finds its own entry by a hash of all that it depends on, and compiles where there is none, so a cache
that does not fit costs a download and nothing else (vLLM documentation, "torch.compile integration").
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from .archive import unpack
from .boot import Phase
from .commands import Commands
from .container_user import engine_cache
from .errors import CommandError
from .log import Log
from .settings import EngineKind, Settings

FORMAT = 1
CALL_SECONDS = 20.0
PATIENCE = 0.8
"""The part of its phase's limit that a restore may take: a slow cache is given up, and not the boot."""
BAKED = "compile-caches"
"""Beside the container's cache: what the machine image brought along, by the last part of its key."""
KEPT = ("torch_compile_cache", "modelinfos", "triton", "flashinfer")
"""Folders below VLLM_CACHE_ROOT; what else is there, such as model files, is not compiled."""
MOST_UPLOAD_BYTES = 5 * 1024**3
"""One PutObject takes no more (S3 user guide, "Uploading objects")."""
_MISSING = ("(404)", "NoSuchKey", "Not Found")
_THERE = ("PreconditionFailed", "ConditionalRequestConflict", "(412)", "(409)")
_WITHOUT_ADDRESS = ("--host", "--port")


class CompileCache:
    """The stored cache of this node's engine. `restore` comes before the engine's start, `save` after it."""

    def __init__(
        self, settings: Settings, *, root: Path, owner: tuple[int, int] | None, commands: Commands, log: Log
    ) -> None:
        """`root` is the engine's VLLM_CACHE_ROOT as the agent sees it; `owner` is who has to write it."""
        self._settings = settings
        self._root = root
        self._owner = owner
        self._commands = commands
        self._log = log
        self._missed = False
        self._key: str | None = None
        process = settings.engine is EngineKind.PROCESS
        # Root writes nothing in a folder of the container's own user, who could put a link in its way. It is
        # the same file system: what is unpacked gets to its place by a rename, whole or not at all.
        self._scratch = root if process else Path(settings.container_cache)
        self._give_up_at = 0.0
        self._baked = Path(settings.container_cache).parent / BAKED
        bucket, _, prefix = settings.artifacts_uri[len("s3://") :].partition("/")
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""

    def restore(self) -> dict[str, object]:
        """Return where the cache came from and its bytes. Only a stop raises CommandError."""
        if not self._settings.artifacts_uri and not self._baked.is_dir():
            return {"source": "off"}
        if any((self._root / name).is_dir() for name in KEPT):
            return {"source": "disk"}
        limit = PATIENCE * self._settings.phase_limits[Phase.COMPILE_CACHE]
        self._give_up_at = time.monotonic() + limit
        try:
            return self._restored()
        except (CommandError, OSError) as err:
            if self._commands.stopped:
                raise CommandError("stopped") from err
            self._missed = any(sign in str(err) for sign in _MISSING)
            if self._missed:
                return {"source": "none"}
            self._log.warning("compile_cache_not_restored", error=str(err), key=self._key)
            return {"source": "none", "error": str(err)}

    def save(self) -> None:
        """Store what the engine compiled, unless there was a cache, or is one by now. Never raises."""
        if not self._missed:
            return
        try:
            made = [name for name in KEPT if (self._root / name).is_dir()]
            if "torch_compile_cache" in made and not self._stored():
                self._store(made)
        except (CommandError, OSError) as err:
            if not self._commands.stopped:
                self._log.warning("compile_cache_not_saved", error=str(err))

    def key(self) -> str:
        """Return the object's key: the same for engines that compile the same. Raises CommandError.

        It is found once: what was looked for under it is stored under it.
        """
        if self._key is None:
            self._key = self._made_key()
        return self._key

    def _made_key(self) -> str:
        told = {
            "format": FORMAT,
            "engine": self._settings.image or _without_address(self._settings.engine_command),
            "processor": self._processor(),
            "model": self._settings.model,
            "weights": self._settings.weights_uri,
            "arguments": list(self._settings.engine_args),
        }
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        return f"{self._prefix}{digest[:32]}.tar.gz"

    def _processor(self) -> str:
        if shutil.which("nvidia-smi") is None:
            return "cpu"
        query = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
        return self._commands.run(*query, timeout_seconds=CALL_SECONDS).strip()

    def _restored(self) -> dict[str, object]:
        baked = self._baked / Path(self.key()).name
        with self._scratch_folder() as scratch:
            if baked.is_file():
                return {"source": "image", "bytes": self._put_in_place(baked, scratch)}
            if not self._settings.artifacts_uri:
                return {"source": "none"}
            archive = scratch / "archive"
            fetch = ("s3", "cp", "--only-show-errors", f"s3://{self._bucket}/{self.key()}", str(archive))
            self._aws(*fetch, timeout_seconds=max(0.1, self._give_up_at - time.monotonic()))
            return {"source": "s3", "bytes": self._put_in_place(archive, scratch)}

    def _put_in_place(self, archive: Path, scratch: Path) -> int:
        unpacked = scratch / "unpacked"
        unpacked.mkdir()
        size = unpack(archive, unpacked, stopped=self._unpacks_no_more)
        if self._owner is not None:
            give_away(unpacked, self._owner)
        self._root.mkdir(parents=True, exist_ok=True)
        with self._opened_root() as root:
            for name in KEPT:
                if (unpacked / name).is_dir():
                    os.rename(unpacked / name, name, dst_dir_fd=root)
        return size

    def _unpacks_no_more(self) -> bool:
        if time.monotonic() > self._give_up_at:
            raise CommandError("the compile cache took too long to come")
        return self._commands.stopped

    @contextlib.contextmanager
    def _scratch_folder(self) -> Iterator[Path]:
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".compile-cache-", dir=self._scratch) as scratch:
            yield Path(scratch)

    @contextlib.contextmanager
    def _opened_root(self) -> Iterator[int]:
        """Give the engine's folder itself: its name is the engine's to change. Raises OSError for a link."""
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            yield root
        finally:
            os.close(root)

    def _stored(self) -> bool:
        try:
            self._aws("s3api", "head-object", "--bucket", self._bucket, "--key", self.key())
        except CommandError as err:
            if any(sign in str(err) for sign in _MISSING):
                return False
            raise
        return True

    def _store(self, made: list[str]) -> None:
        with self._scratch_folder() as scratch, self._opened_root() as root:
            archive = scratch / "archive"
            # The engine serves by now, and comes first.
            pack = ("nice", "-n", "19", "tar", "--create", "--gzip", "--file", str(archive))
            self._commands.run(*pack, "--directory", f"/proc/{os.getpid()}/fd/{root}", "--", *made)
            size = archive.stat().st_size
            if size > MOST_UPLOAD_BYTES:
                raise CommandError(f"the compile cache is too large to keep: {size} bytes")
            self._put(archive)
        self._log.info("compile_cache_saved", key=self.key(), bytes=size)

    def _put(self, archive: Path) -> None:
        put = ("s3api", "put-object", "--bucket", self._bucket, "--key", self.key(), "--body", str(archive))
        try:
            # The first node wins: nobody's cache is replaced under a node that reads it.
            self._aws(*put, "--if-none-match", "*", timeout_seconds=None)
        except CommandError as err:
            if any(sign in str(err) for sign in _THERE):
                return
            if "Unknown options" not in str(err):
                raise
            # A command line from before November 2024. Whoever comes second replaces an equal.
            self._aws(*put, timeout_seconds=None)

    def _aws(self, *arguments: str, timeout_seconds: float | None = CALL_SECONDS) -> str:
        return self._commands.aws(*arguments, region=self._settings.region, timeout_seconds=timeout_seconds)


def give_away(folder: Path, owner: tuple[int, int]) -> None:
    """Make a folder and all in it a user's and group's own."""
    for path, folders, files in os.walk(folder):
        os.chown(path, *owner)
        for name in (*folders, *files):
            os.chown(os.path.join(path, name), *owner, follow_symlinks=False)


def cache_root(settings: Settings) -> Path:
    """Return the engine's VLLM_CACHE_ROOT as the agent sees it."""
    given = os.environ.get("VLLM_CACHE_ROOT") if settings.engine is EngineKind.PROCESS else None
    return Path(given).resolve() if given else engine_cache(settings) / "vllm"


def _without_address(command: tuple[str, ...]) -> list[str]:
    kept, skip = [], False
    for word in command:
        if not skip and word not in _WITHOUT_ADDRESS:
            kept.append(word)
        skip = not skip and word in _WITHOUT_ADDRESS
    return kept
