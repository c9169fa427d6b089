"""The first node that compiled keeps what it made; the next one unpacks that, and nothing but plain files."""

from __future__ import annotations

import io
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import archive, compile_cache
from gpu_node_bootstrap.node_agent.archive import ArchiveError, unpack
from gpu_node_bootstrap.node_agent.commands import Commands
from gpu_node_bootstrap.node_agent.compile_cache import BAKED, CompileCache, cache_root
from tests.unit.node.preparation_kit import Cloud

ARTIFACTS = "s3://artifacts/compile-cache"


@pytest.fixture
def cloud(tmp_path: Path, aws: Any, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    monkeypatch.setenv("PATH", str(aws.directory), prepend=":")
    monkeypatch.delenv("VLLM_CACHE_ROOT", raising=False)
    return Cloud(tmp_path / "cloud", aws)


def node(cloud: Cloud, name: str = "one", **changes: str) -> CompileCache:
    told = {"ARTIFACTS_URI": ARTIFACTS, "CONTAINER_CACHE": str(cloud.state / name), **changes}
    settings = cloud.settings(**told)
    owner = (2000, 0) if os.geteuid() == 0 else None
    return CompileCache(
        settings, root=cache_root(settings), owner=owner, commands=Commands(), log=cloud.log()
    )


def compiled(cloud: Cloud, name: str = "one") -> Path:
    root = cloud.state / name / "engine/vllm"
    kernel = root / "torch_compile_cache/4f/kernel.so"
    kernel.parent.mkdir(parents=True)
    kernel.write_bytes(b"compiled")
    kernel.chmod(0o755)
    (root / "assets").mkdir()
    (root / "assets/weights").write_bytes(b"not compiled")
    return root


def stored(cloud: Cloud) -> list[Path]:
    return [path for path in (cloud.state / "s3").rglob("*") if path.is_file()]


def packed(cloud: Cloud, *members: tarfile.TarInfo, content: bytes = b"") -> Path:
    path = cloud.store(f"s3://artifacts/{node(cloud).key()}", b"")
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def test_what_the_first_node_compiled_the_second_one_has(cloud: Cloud) -> None:
    first = node(cloud)
    assert first.restore() == {"source": "none"}
    compiled(cloud)
    first.save()
    assert [path.name for path in stored(cloud)] == [Path(first.key()).name]
    second = node(cloud, "two")
    assert second.restore() == {"source": "s3", "bytes": len(b"compiled")}
    root = cloud.state / "two/engine/vllm"
    kernel = root / "torch_compile_cache/4f/kernel.so"
    assert kernel.read_bytes() == b"compiled"
    assert [path.name for path in root.iterdir()] == ["torch_compile_cache"], "and no scratch, no assets"
    if os.geteuid() == 0:
        assert (kernel.stat().st_uid, kernel.parent.stat().st_uid) == (2000, 2000)
    before = len(cloud.aws.calls)
    second.save()
    assert len(cloud.aws.calls) == before, "what was restored is not stored again"


def test_a_node_that_has_a_cache_asks_for_none(cloud: Cloud) -> None:
    compiled(cloud)
    assert node(cloud).restore() == {"source": "disk"}
    assert cloud.aws.calls == []


@pytest.mark.parametrize("bucket", [ARTIFACTS, ""])
def test_a_cache_that_the_machine_image_brought_along_is_taken_from_there(cloud: Cloud, bucket: str) -> None:
    first = node(cloud)
    first.restore()
    compiled(cloud)
    first.save()
    (archive,) = stored(cloud)
    (cloud.state / BAKED).mkdir()
    archive.rename(cloud.state / BAKED / archive.name)
    calls = len(cloud.aws.calls)
    restored = node(cloud, "two", ARTIFACTS_URI=bucket).restore()
    assert restored == {"source": "image", "bytes": len(b"compiled")}
    assert len(cloud.aws.calls) == calls
    assert (cloud.state / "two/engine/vllm/torch_compile_cache/4f/kernel.so").read_bytes() == b"compiled"


def test_an_image_without_this_engines_cache_leaves_the_search_to_s3(cloud: Cloud) -> None:
    (cloud.state / BAKED).mkdir()
    assert node(cloud).restore() == {"source": "none"}
    assert len(cloud.aws.calls) == 1
    assert node(cloud, "two", ARTIFACTS_URI="").restore() == {"source": "none"}


def test_without_a_bucket_nothing_is_kept(cloud: Cloud) -> None:
    off = node(cloud, ARTIFACTS_URI="")
    assert off.restore() == {"source": "off"}
    compiled(cloud)
    off.save()
    assert cloud.aws.calls == []


def test_an_engine_that_compiled_nothing_stores_nothing(cloud: Cloud) -> None:
    cache = node(cloud)
    cache.restore()
    cache.save()
    assert stored(cloud) == []
    assert cloud.warnings() == []


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_the_first_node_wins(cloud: Cloud, moment: str) -> None:
    cache = node(cloud)
    cache.restore()
    compiled(cloud)
    if moment == "before":
        theirs = cloud.store(f"s3://artifacts/{cache.key()}", b"theirs")
        cache.save()
        assert theirs.read_bytes() == b"theirs"
    else:
        (cloud.state / "raced").touch()
        cache.save()
    assert len(cloud.aws.calls_with("put-object")) == (0 if moment == "before" else 1)
    assert cloud.warnings() == []


def test_an_old_command_line_stores_it_without_the_condition(cloud: Cloud) -> None:
    (cloud.state / "old-cli").touch()
    cache = node(cloud)
    cache.restore()
    compiled(cloud)
    cache.save()
    assert len(stored(cloud)) == 1


def test_a_save_that_fails_leaves_a_warning_and_no_scratch(cloud: Cloud) -> None:
    cache = node(cloud)
    cache.restore()
    root = compiled(cloud)
    cloud.fails("s3api")
    cache.save()
    assert cloud.warnings() == ["compile_cache_not_saved"]
    assert sorted(path.name for path in root.iterdir()) == ["assets", "torch_compile_cache"]


def test_a_store_that_refuses_costs_a_warning_and_is_not_written_to(cloud: Cloud) -> None:
    cloud.fails("s3")
    cache = node(cloud)
    assert cache.restore()["source"] == "none"
    assert cloud.warnings() == ["compile_cache_not_restored"]
    compiled(cloud)
    cache.save()
    assert stored(cloud) == []


def test_the_key_follows_what_is_compiled_and_nothing_else(cloud: Cloud) -> None:
    key = node(cloud).key()
    assert key.startswith("compile-cache/")
    assert node(cloud, "two", HEALTH_PORT="9000").key() == key
    for change in (
        {"IMAGE": "vllm/vllm-openai:v0.33.0"},
        {"MODEL": "other/model"},
        {"ENGINE_ARGS": '["--max-model-len", "4096"]'},
        {"WEIGHTS_URI": "s3://models/chat"},
    ):
        assert node(cloud, **change).key() != key
    cloud.program("nvidia-smi", "echo NVIDIA L40S")
    assert node(cloud).key() != key


def test_processes_on_other_addresses_compile_the_same(cloud: Cloud) -> None:
    keys = {
        node(
            cloud, ENGINE="process", ENGINE_COMMAND=f'["vllm", "--host", "{host}", "--port", "{port}"]'
        ).key()
        for host, port in (("127.0.0.1", 8000), ("10.0.0.7", 8001))
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    "bad",
    [
        member("../escape"),
        member("/etc/escape"),
        member("torch_compile_cache/../../escape"),
        member("torch_compile_cache/link", tarfile.SYMTYPE, "/etc"),
        member("torch_compile_cache/link", tarfile.LNKTYPE, "/etc/passwd"),
        member("torch_compile_cache/device", tarfile.CHRTYPE),
        member("torch_compile_cache/pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: f"{bad.name}-{bad.type.decode()}",
)
def test_an_archive_that_does_more_than_hold_files_is_dropped(cloud: Cloud, bad: tarfile.TarInfo) -> None:
    packed(cloud, member("torch_compile_cache/good"), bad)
    assert node(cloud).restore()["source"] == "none"
    assert cloud.warnings() == ["compile_cache_not_restored"]
    assert list((cloud.state / "one").iterdir()) == []
    assert not list(cloud.state.rglob("escape"))


def test_a_name_that_comes_twice_is_refused(cloud: Cloud) -> None:
    packed(cloud, member("torch_compile_cache/a"), member("torch_compile_cache/a"))
    assert node(cloud).restore()["source"] == "none"


@pytest.mark.parametrize("slow", ["nvidia-smi", "download", "unpacking"])
def test_a_cache_that_is_slow_to_come_is_given_up_before_its_phase_is(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    packed(cloud, member("torch_compile_cache/a"), content=b"a")
    if slow == "nvidia-smi":
        monkeypatch.setattr(compile_cache, "CALL_SECONDS", 0.1)
        cloud.program("nvidia-smi", "exec sleep 60")
    elif slow == "download":
        (cloud.state / "hang-s3").touch()
    else:
        monkeypatch.setattr(archive, "_unpack_member", unpack_for_ever)
    began = time.monotonic()
    restored = node(cloud, PHASE_LIMITS='{"compile_cache": 1.5}').restore()
    assert time.monotonic() - began < 1.5
    assert restored["source"] == "none"
    assert cloud.warnings() == ["compile_cache_not_restored"]


def unpack_for_ever(*arguments: Any) -> None:
    stopped = arguments[-1]
    while not stopped():
        time.sleep(0.01)


def test_what_was_looked_for_under_a_key_is_stored_under_it(cloud: Cloud) -> None:
    cloud.program("nvidia-smi", "echo NVIDIA L40S")
    cache = node(cloud)
    assert cache.restore() == {"source": "none"}
    cloud.program("nvidia-smi", "exit 9")
    compiled(cloud)
    cache.save()
    assert [path.name for path in stored(cloud)] == [Path(cache.key()).name]


def test_a_gpu_that_says_nothing_is_no_cpu(cloud: Cloud) -> None:
    cloud.program("nvidia-smi", "exit 9")
    cache = node(cloud)
    assert cache.restore()["source"] == "none"
    compiled(cloud)
    cache.save()
    assert stored(cloud) == []
    assert cloud.aws.calls == []


def test_root_packs_where_the_engine_can_put_no_link_in_its_way(cloud: Cloud) -> None:
    cache = node(cloud)
    cache.restore()
    compiled(cloud)
    cloud.program("tar", f'echo "$*" >> {cloud.state}/tar-calls; exec /bin/tar "$@"')
    cache.save()
    (call,) = (cloud.state / "tar-calls").read_text().splitlines()
    written = Path(call.split("--file ")[1].split()[0])
    assert written.parent.parent == cloud.state / "one", "beside the engine's own folder, not in it"


def test_the_engines_folder_is_not_looked_for_behind_a_link_of_its_own(cloud: Cloud) -> None:
    cache = node(cloud)
    cache.restore()
    root = compiled(cloud)
    root.rename(cloud.state / "somebody-elses")
    root.symlink_to(cloud.state / "somebody-elses")
    cache.save()
    assert cloud.warnings() == ["compile_cache_not_saved"]
    assert stored(cloud) == []
    packed(cloud, member("triton/a"), content=b"a")
    (cloud.state / "somebody-elses/torch_compile_cache").rename(cloud.state / "away")
    assert node(cloud).restore()["source"] == "none"
    assert not (cloud.state / "somebody-elses/triton").exists()


def test_a_broken_archive_is_dropped(cloud: Cloud) -> None:
    path = packed(cloud, member("torch_compile_cache/a"), content=os.urandom(10_000))
    path.write_bytes(path.read_bytes()[:5_000])
    assert node(cloud).restore()["source"] == "none"
    assert cloud.warnings() == ["compile_cache_not_restored"]


def test_an_archive_that_grows_too_large_or_holds_too_many_files_is_left(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(cloud, member("a"), member("b"), content=bytes(100_000))
    with pytest.raises(ArchiveError, match="more than"):
        unpack(path, tmp_path / "bytes", stopped=lambda: False, most_bytes=150_000)
    assert not (tmp_path / "bytes/b").exists()
    monkeypatch.setattr(archive, "MOST_FILES", 1)
    with pytest.raises(ArchiveError, match="more than"):
        unpack(path, tmp_path / "files", stopped=lambda: False)


def test_unpacking_ends_when_the_preparation_is_stopped(cloud: Cloud, tmp_path: Path) -> None:
    path = packed(cloud, member("a"), content=bytes(3 * archive.CHUNK_BYTES))
    answers = iter([False, True])
    with pytest.raises(ArchiveError, match="stopped"):
        unpack(path, tmp_path / "out", stopped=lambda: next(answers))
    assert (tmp_path / "out/a").stat().st_size == archive.CHUNK_BYTES, "in the middle of a file"
