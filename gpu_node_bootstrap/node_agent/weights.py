"""Where the engine finds the model: in S3, on the node's disk, or on the hub if neither can be had."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .boot import Phase
from .commands import Commands
from .container_user import CONTAINER_WEIGHTS, weights_folder
from .errors import CommandError
from .log import Log
from .settings import EngineKind, Settings, WeightsLoad

CALL_SECONDS = 20.0
TRIES = 3
MARKER = ".complete"
"""Written last, with the digest of the listing that the files were fetched by."""
HUB = {"source": "hub", "read_in": Phase.ENGINE.value}
"""What a boot says of the hub's weights: nothing is fetched beforehand, vLLM downloads them as it starts."""
SPARE_BYTES = 2 * 1024**3
"""What a download leaves free on the disk."""
CREDENTIALS_SECONDS = 3600
"""The longest that a role lends itself to another role (IAM user guide, "Role chaining")."""
FRESH_SECONDS = 1800.0
"""Credentials that end sooner than this are renewed before a start: the longest that an engine may take."""


@dataclass(frozen=True)
class Weights:
    """The model as the engine is to be given it."""

    model: str
    engine_args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    expires_at: float | None = None
    """When the credentials in `environment` end (epoch seconds); None: there are none."""
    detail: Mapping[str, object] = field(default_factory=dict)
    """What the boot's record says of them."""


@dataclass(frozen=True)
class StoredFile:
    """One object below the weights' prefix; `name` is what follows it."""

    name: str
    size: int
    etag: str


class WeightsError(CommandError):
    """What is in S3 is not a model that the engine could load."""


class NoRoomError(WeightsError):
    """The model does not fit the node's disk, wherever it would come from."""


def fetch_weights(settings: Settings, *, commands: Commands, log: Log) -> Weights:
    """Return the model to start with: the hub's, where S3 has none.

    Raises CommandError when stopped, and NoRoomError: what the hub has would go to the same disk.
    """
    if not settings.weights_uri:
        return Weights(settings.model, detail=HUB)
    try:
        files = commands.tried(lambda: _listed(settings, commands), tries=TRIES)
        if settings.weights_load is WeightsLoad.STREAM and settings.weights_role:
            return _streamed(settings, files, commands)
        return _downloaded(settings, files, commands)
    except NoRoomError:
        raise
    except (CommandError, OSError) as err:
        if commands.stopped:
            raise CommandError("stopped") from err
        log.warning("weights_not_in_s3", error=str(err), uri=settings.weights_uri, instead=settings.model)
        return Weights(settings.model, detail={**HUB, "fallback": str(err)})


def lend_credentials(settings: Settings, *, commands: Commands) -> tuple[dict[str, str], float]:
    """Return the weights role's credentials for an engine's environment, and when they end.

    The engine never gets the node's own: whoever breaks into it could read weights, and do nothing else.
    Raises CommandError.
    """
    text = commands.aws(
        *("sts", "assume-role", "--role-arn", settings.weights_role),
        *("--role-session-name", "spot-failover-engine"),
        *("--duration-seconds", str(CREDENTIALS_SECONDS), "--output", "json"),
        region=settings.region,
        timeout_seconds=CALL_SECONDS,
    )
    try:
        lent = json.loads(text)["Credentials"]
        environment = {
            "AWS_ACCESS_KEY_ID": lent["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": lent["SecretAccessKey"],
            "AWS_SESSION_TOKEN": lent["SessionToken"],
            "AWS_REGION": settings.region,
            "AWS_DEFAULT_REGION": settings.region,
        }
        # Python 3.9 does not read the Z.
        expires_at = datetime.fromisoformat(lent["Expiration"].replace("Z", "+00:00")).timestamp()
    except (ValueError, KeyError, TypeError) as err:
        raise CommandError("sts answered no credentials") from err
    return environment, expires_at


def _streamed(settings: Settings, files: Sequence[StoredFile], commands: Commands) -> Weights:
    _require(files, ".safetensors")
    environment, expires_at = commands.tried(
        lambda: lend_credentials(settings, commands=commands), tries=TRIES
    )
    return Weights(
        settings.weights_uri,
        engine_args=("--load-format", "runai_streamer"),
        environment=environment,
        expires_at=expires_at,
        detail={"source": "stream", "bytes": sum(each.size for each in files)},
    )


def _downloaded(settings: Settings, files: Sequence[StoredFile], commands: Commands) -> Weights:
    _require(files, ".safetensors", ".bin", ".gguf", ".pt")
    folder = weights_folder(settings) / hashlib.sha256(settings.weights_uri.encode()).hexdigest()[:16]
    model = str(folder)
    if settings.engine is EngineKind.CONTAINER:
        model = f"{CONTAINER_WEIGHTS}/{folder.name}"
    size, digest = sum(each.size for each in files), _digest(files)
    if _marked(folder) == digest and _whole(folder, files):
        return Weights(model, detail={"source": "disk", "bytes": size})
    _make_room(folder, size)
    commands.tried(lambda: _synchronise(settings, folder, files, commands), tries=TRIES)
    _mark(folder, digest)
    return Weights(model, detail={"source": "s3", "bytes": size})


def _listed(settings: Settings, commands: Commands) -> list[StoredFile]:
    bucket, _, prefix = settings.weights_uri[len("s3://") :].partition("/")
    prefix = f"{prefix}/" if prefix else ""
    text = commands.aws(
        *("s3api", "list-objects-v2", "--bucket", bucket, "--prefix", prefix),
        *("--query", "Contents[].[Key,Size,ETag]", "--output", "json"),
        region=settings.region,
        timeout_seconds=CALL_SECONDS,
    )
    try:
        listed = [(str(key), int(size), str(etag)) for key, size, etag in json.loads(text or "null") or []]
    except (ValueError, TypeError) as err:
        raise WeightsError("S3 answered no list of files") from err
    files = [StoredFile(key[len(prefix) :], size, etag) for key, size, etag in listed]
    return [each for each in files if each.name and not each.name.endswith("/")]


def _require(files: Sequence[StoredFile], *endings: str) -> None:
    names = {each.name for each in files}
    if "config.json" not in names and not any(name.endswith(".gguf") for name in names):
        raise WeightsError("there is no config.json")
    if not any(name.endswith(endings) for name in names):
        raise WeightsError(f"there is no file that ends in {', '.join(endings)}")


def _make_room(folder: Path, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free + held
    if free < size + SPARE_BYTES:
        raise NoRoomError(f"{size} bytes do not fit: {free} are free")


def _synchronise(settings: Settings, folder: Path, files: Sequence[StoredFile], commands: Commands) -> None:
    commands.aws(
        *("s3", "sync", "--only-show-errors", "--delete", f"{settings.weights_uri}/", str(folder)),
        region=settings.region,
        # The phase's limit is its patience.
        timeout_seconds=None,
    )
    if not _whole(folder, files):
        raise WeightsError("the download is not what S3 listed")


def _whole(folder: Path, files: Sequence[StoredFile]) -> bool:
    try:
        return all((folder / each.name).stat().st_size == each.size for each in files)
    except OSError:
        return False


def _digest(files: Sequence[StoredFile]) -> str:
    told = sorted((each.name, each.size, each.etag) for each in files)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _marked(folder: Path) -> str:
    try:
        return (folder / MARKER).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _mark(folder: Path, digest: str) -> None:
    new = folder / f"{MARKER}.new"
    new.write_text(digest, encoding="utf-8")
    os.replace(new, folder / MARKER)
