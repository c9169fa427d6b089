"""Whatever a node leaves behind is found, of each kind, and nothing that is somebody else's."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.node.leftovers import Before, Leftover, find_leftovers, look_before, still_there
from local_aws.nodes.processes import NODE_MARK

ADDRESS = "127.84.9.9"
MARK = "i-leftovers-test"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return the folder of a node that ended well."""
    for name in ("root/etc/spot-failover/node.env", "root/var/log/journal/a.log", "console.log", "bin/aws"):
        path = tmp_path / "node" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "of-somebody-else").touch()
    return tmp_path / "node"


@pytest.fixture
def before(home: Path) -> Before:
    return look_before([home.parent / "shared"])


@pytest.fixture
def found(home: Path, before: Before) -> Callable[[], list[Leftover]]:
    return lambda: find_leftovers(
        home, mark=MARK, address=ADDRESS, before=before, shared_folders=[home.parent / "shared"]
    )


@pytest.fixture
def marked() -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, NODE_MARK: MARK}
    # A session of its own and another working directory, as an orphan has.
    with subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True) as process:
        yield process
        process.kill()


def test_node_that_ended_well_left_nothing(found: Callable[[], list[Leftover]]) -> None:
    assert found() == []


def test_process_is_found(marked: subprocess.Popen[bytes], found: Callable[[], list[Leftover]]) -> None:
    assert found() == [Leftover("process", f"{marked.pid} sleep 60")]


def test_open_port_is_found_and_another_addresses_is_not(found: Callable[[], list[Leftover]]) -> None:
    with socket.create_server((ADDRESS, 0)) as server, socket.create_server(("127.84.9.8", 0)):
        port = server.getsockname()[1]
        assert found() == [Leftover("port", f"{ADDRESS}:{port} listens")]
    assert found() == []


def test_connection_that_nobody_closed_is_found(found: Callable[[], list[Leftover]]) -> None:
    with socket.create_server((ADDRESS, 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    with client, accepted:
        assert {leftover.kind for leftover in found()} == {"port"}
        assert all("is connected" in leftover.what for leftover in found())


def test_socket_is_found_bound_and_as_a_dead_file(home: Path, found: Callable[[], list[Leftover]]) -> None:
    path = home / "root" / "agent.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        assert found() == [Leftover("file", "root/agent.sock (socket)"), Leftover("socket", str(path))]
    assert found() == [Leftover("file", "root/agent.sock (socket)")]


def test_lock_is_found_even_on_a_file_that_may_stay(home: Path, found: Callable[[], list[Leftover]]) -> None:
    with (home / "console.log").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert found() == [Leftover("lock", "console.log")]


@pytest.mark.parametrize(
    "name", ["root/tmp/a", "root/run/spot-failover/engine.env", "root/var/lib/x", "root/root/.bash_history"]
)
def test_file_is_found(home: Path, found: Callable[[], list[Leftover]], name: str) -> None:
    (home / name).parent.mkdir(parents=True, exist_ok=True)
    (home / name).touch()
    assert found() == [Leftover("file", name)]


def test_file_outside_the_node_is_found(home: Path, found: Callable[[], list[Leftover]]) -> None:
    stray = home.parent / "shared" / "torchinductor_root"
    stray.mkdir()
    (leftover,) = found()
    assert leftover == Leftover("shared file", str(stray))
    assert still_there(leftover)
    stray.rmdir()
    assert not still_there(leftover), "another program's, which cleaned up after itself"


def test_shared_memory_is_found(found: Callable[[], list[Leftover]]) -> None:
    # shmget(2) by ctypes: the standard library has no System V shared memory.
    made = subprocess.run(
        [
            sys.executable,
            "-c",
            "import ctypes; print(ctypes.CDLL(None).shmget(0, 4096, 0o1600))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    segment = made.stdout.strip()
    try:
        assert found() == [Leftover("memory", f"segment {segment}")]
    finally:
        subprocess.run(["ipcrm", "-m", segment], check=True)
