"""The engine as a container, over a `docker` on PATH that runs the emulated engine in its own session."""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent import container_engine
from gpu_node_bootstrap.node_agent.container_arguments import run_arguments
from gpu_node_bootstrap.node_agent.container_engine import ContainerEngine
from gpu_node_bootstrap.node_agent.container_user import make_folders, secrets_file
from gpu_node_bootstrap.node_agent.errors import EngineError
from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.preparation import Prepared
from gpu_node_bootstrap.node_agent.settings import Settings
from local_aws.engines.commands import completes, engine_command, engine_environment

DOCKER = """#!/bin/bash
# One container at a time, as far as the agent uses docker.
state=%(state)s
mkdir -p "$state"
echo "$*" >> "$state/calls"
gone() { echo "Error response from daemon: No such container: spot-failover-engine" >&2; exit 1; }
command=$1; shift
[ -e "$state/daemon-hangs" ] && [ "$command" != run ] && exec sleep 60
case $command in
  run)
    while [ "$1" != --env-file ]; do shift; done
    stat --format %%a "$2" > "$state/secrets-mode"; cp "$2" "$state/secrets"
    [ -e "$state/starting" ] && exec sleep 60
    said=$(cat "$state/refuses" 2> /dev/null) && { echo "$said" >&2; exit 125; }
    ( setsid %(engine)s & echo $! > "$state/pid"; wait $!; echo $? > "$state/status" ) > /dev/null 2>&1 &
    while [ ! -s "$state/pid" ]; do sleep 0.01; done
    echo 4f5e ;;
  inspect) [ -e "$state/pid" ] || gone; cat "$state/pid" ;;
  logs) echo "one"; echo "two" >&2 ;;
  wait) while [ ! -s "$state/status" ]; do sleep 0.02; done; cat "$state/status" ;;
  kill) [ -e "$state/pid" ] || gone
    [ ! -s "$state/status" ] || { echo "Error: container 4f5e is not running" >&2; exit 1; }
    kill -s "$2" -- "-$(cat "$state/pid")" ;;
  rm) [ -e "$state/pid" ] || gone; kill -s KILL -- "-$(cat "$state/pid")" 2> /dev/null; rm "$state/pid" ;;
esac
"""


ENGINES: list[ContainerEngine] = []


@pytest.fixture
def docker(kit: Any, imds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the fake on PATH; return the directory of its state, where files make it misbehave."""
    state, port = tmp_path / "docker", kit.free_port()
    state.mkdir()
    engine = engine_command("emulated", host=kit.HOST, port=port, start_seconds=0.1)
    directory = tmp_path / "bin"
    directory.mkdir()
    program = directory / "docker"
    program.write_text(DOCKER % {"state": state, "engine": " ".join([*engine, "--exit-seconds", "0.1"])})
    program.chmod(0o755)
    for name, value in engine_environment("emulated").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(directory), prepend=":")
    monkeypatch.setattr(container_engine, "CALL_SECONDS", 0.5)
    monkeypatch.setattr(container_engine, "FIRST_PAUSE_SECONDS", 0.05)
    (state / "port").write_text(str(port))
    imds.local_ipv4 = "10.0.0.5"
    (state / "imds").write_text(imds.endpoint)
    yield state
    for misbehaviour in ("daemon-hangs", "starting", "refuses"):
        (state / misbehaviour).unlink(missing_ok=True)
    while ENGINES:
        ENGINES.pop().kill()


SECRET = "sk-do-not-tell"
PREPARED = Prepared("some/model", environment={"VLLM_API_KEY": SECRET}, api_key=SECRET)


def settings(folder: Path, **changes: str) -> Settings:
    return Settings.from_environment(
        {
            "SPOT_FAILOVER_FLEET": "chat",
            "SPOT_FAILOVER_REGION": "eu-west-1",
            "SPOT_FAILOVER_ASG_NAME": "spot-failover-chat",
            "SPOT_FAILOVER_IMAGE": "vllm/vllm-openai:v0.32.0",
            "SPOT_FAILOVER_MODEL": "some/model",
            "SPOT_FAILOVER_SERVED_MODEL_NAME": "model",
            "SPOT_FAILOVER_ENGINE_ARGS": '["--max-model-len", "8192"]',
            "SPOT_FAILOVER_CONTAINER_CACHE": str(folder / "cache"),
            "SPOT_FAILOVER_SOCKET": str(folder / "run" / "agent.sock"),
            **{f"SPOT_FAILOVER_{name}": value for name, value in changes.items()},
        }
    )


def container(state: Path, log: io.StringIO | None = None) -> ContainerEngine:
    told = (state / "imds").read_text()
    engine = ContainerEngine(settings(state, IMDS_ENDPOINT=told), log=Log(stream=log or io.StringIO()))
    ENGINES.append(engine)
    return engine


def calls(state: Path) -> list[str]:
    return [line.split()[0] for line in (state / "calls").read_text().splitlines()]


def started(kit: Any, state: Path, log: io.StringIO | None = None) -> ContainerEngine:
    engine = container(state, log)
    engine.start(PREPARED)
    port = int((state / "port").read_text())
    kit.eventually(lambda: completes(kit.HOST, port), what="a completion")
    return engine


def test_a_container_ends_by_itself_after_sigterm(kit: Any, docker: Path) -> None:
    engine = started(kit, docker)
    assert engine.exit_status() is None
    engine.terminate()
    kit.eventually(lambda: engine.exit_status() is not None)
    assert engine.exit_status() == 0
    engine.kill()
    assert calls(docker)[-1] == "rm"


def test_a_kill_ends_the_container_and_removes_it(kit: Any, docker: Path) -> None:
    engine = started(kit, docker)
    pid = kit.eventually(lambda: engine.describe()["pid"])
    engine.kill()
    assert not kit.alive([pid])
    assert engine.exit_status() is not None
    assert not (docker / "pid").exists()


def test_a_daemon_that_hangs_does_not_save_its_container(kit: Any, docker: Path) -> None:
    engine = started(kit, docker)
    pid = kit.eventually(lambda: engine.describe()["pid"])
    (docker / "daemon-hangs").touch()
    began = time.monotonic()
    engine.kill()
    assert not kit.alive([pid])
    assert time.monotonic() - began < 3


def test_a_kill_during_a_start_ends_the_start(kit: Any, docker: Path) -> None:
    (docker / "starting").touch()
    engine = container(docker)
    engine.start(PREPARED)
    kit.eventually(lambda: "run" in calls(docker) if (docker / "calls").exists() else False)
    assert engine.exit_status() is None
    engine.kill()
    assert engine.exit_status() is not None


def test_a_kill_that_docker_does_not_confirm_is_no_end(kit: Any, docker: Path) -> None:
    (docker / "starting").touch()
    engine = container(docker)
    engine.start(PREPARED)
    kit.eventually(lambda: (docker / "calls").exists() and "run" in calls(docker))
    (docker / "daemon-hangs").touch()
    with pytest.raises(EngineError, match="did not say in time whether a container is left"):
        engine.kill()
    (docker / "daemon-hangs").unlink()
    engine.kill()


def test_a_number_that_the_kernel_gave_out_again_is_no_container(kit: Any, docker: Path) -> None:
    engine = started(kit, docker)
    kit.eventually(lambda: engine.describe()["pid"])
    engine.terminate()
    kit.eventually(lambda: engine.exit_status() is not None)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        engine._init_pid = stranger.pid
        (docker / "daemon-hangs").touch()
        engine.kill()
        assert stranger.poll() is None
        stranger.kill()


def test_the_end_of_a_container_that_has_ended_is_nothing_to_warn_of(kit: Any, docker: Path) -> None:
    text = io.StringIO()
    engine = started(kit, docker, log=text)
    engine.terminate()
    kit.eventually(lambda: engine.exit_status() is not None)
    engine.kill()
    assert "WARNING" not in text.getvalue()


UNREACHABLE = [
    "docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is it running?",
    "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct and if "
    "the daemon is running: dial unix /var/run/docker.sock: connect: no such file or directory",
]
NO_GPU = 'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].'


@pytest.mark.parametrize("error", UNREACHABLE)
def test_a_daemon_that_cannot_be_reached_is_asked_again(kit: Any, docker: Path, error: str) -> None:
    (docker / "refuses").write_text(error)
    engine = container(docker)
    engine.start(PREPARED)
    kit.eventually(lambda: (docker / "calls").exists() and calls(docker).count("run") >= 2)
    assert engine.exit_status() is None
    (docker / "refuses").unlink()
    port = int((docker / "port").read_text())
    kit.eventually(lambda: completes(kit.HOST, port), what="a completion")
    assert engine.log_tail(10) == ["one", "two"]


def test_a_container_that_the_daemon_refuses_has_failed_in_the_daemons_words(kit: Any, docker: Path) -> None:
    (docker / "refuses").write_text(f"{NO_GPU}\n\nRun 'docker run --help' for more information\n")
    engine = container(docker)
    engine.start(PREPARED)
    assert kit.eventually(engine.exit_status) == 125
    assert engine.end_reason().startswith(f"docker started no container, status 125: {NO_GPU}")
    assert engine.log_tail(10)[0] == NO_GPU
    assert calls(docker).count("run") == 1
    engine.kill()


def test_a_node_without_docker_says_so(kit: Any, docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(docker))
    engine = container(docker)
    engine.start(PREPARED)
    assert kit.eventually(engine.exit_status) == 125
    assert "No such file or directory: 'docker'" in engine.end_reason()


def test_a_kill_ends_the_tries(kit: Any, docker: Path) -> None:
    (docker / "refuses").write_text(UNREACHABLE[0])
    engine = container(docker)
    engine.start(PREPARED)
    kit.eventually(lambda: (docker / "calls").exists() and "run" in calls(docker))
    engine.kill()
    assert kit.eventually(lambda: engine.exit_status() is not None)


def test_what_a_dead_agent_left_is_removed_before_the_start(kit: Any, docker: Path) -> None:
    left = subprocess.Popen(["sleep", "60"], start_new_session=True)
    (docker / "pid").write_text(str(left.pid))
    engine = started(kit, docker)
    assert left.wait(timeout=5) != 0
    assert calls(docker)[:2] == ["rm", "run"]
    engine.kill()


def test_secrets_reach_docker_in_a_file_of_roots_that_is_gone_after_it(kit: Any, docker: Path) -> None:
    started(kit, docker).kill()
    assert (docker / "secrets").read_text() == f"VLLM_API_KEY={SECRET}\n"
    assert (docker / "secrets-mode").read_text().strip() == "600"
    assert list((docker / "run").iterdir()) == []
    assert SECRET not in (docker / "calls").read_text()


def test_a_secret_of_two_lines_is_not_written_as_two_variables(tmp_path: Path) -> None:
    told = {"VLLM_API_KEY": "a\nLD_PRELOAD=b"}
    with pytest.raises(OSError, match="VLLM_API_KEY"), secrets_file(settings(tmp_path), told):
        pytest.fail("written")
    assert list((tmp_path / "run").iterdir()) == []


def test_the_log_of_a_container_is_both_of_its_streams(kit: Any, docker: Path) -> None:
    engine = started(kit, docker)
    assert engine.log_tail(10) == ["one", "two"]
    assert engine.log_tail(1) == ["two"]


def words(folder: Path, prepared: Prepared = PREPARED, *, address: str = "10.0.0.5") -> list[str]:
    return run_arguments(settings(folder), prepared, address=address, secrets=folder / "engine.env")


def options(arguments: list[str]) -> dict[str, list[str]]:
    """Return docker's options with their values, of which each takes one but the flags."""
    before = arguments[: arguments.index("vllm/vllm-openai:v0.32.0")]
    flags = {"--init", "--read-only"}
    found: dict[str, list[str]] = {}
    while before:
        name = before.pop(0)
        found.setdefault(name, []).append("" if name in flags else before.pop(0))
    assert all(name.startswith("--") for name in found)
    return found


def test_the_container_is_run_as_the_fleet_and_the_preparation_say(tmp_path: Path) -> None:
    prepared = Prepared("s3://bucket/model", ("--load-format", "runai_streamer"))
    arguments = words(tmp_path, prepared)
    served = " ".join(arguments[arguments.index("vllm/vllm-openai:v0.32.0") + 1 :])
    assert served.startswith("serve s3://bucket/model --served-model-name model --host 0.0.0.0 --port 8000 ")
    assert served.endswith("--shutdown-timeout 60 --load-format runai_streamer --max-model-len 8192")
    told = options(arguments)
    assert (told["--gpus"], told["--restart"], told["--entrypoint"]) == (["all"], ["no"], ["vllm"])
    assert told["--pull"] == ["never"], "a pull belongs to the image's phase"
    # An Application Load Balancer keeps connections for up to 4000 s and must never meet a closed one.
    (keep_alive,) = (text for text in told["--env"] if text.startswith("VLLM_HTTP_TIMEOUT_KEEP_ALIVE="))
    assert int(keep_alive.partition("=")[2]) > 4000


def test_the_engine_is_nobody_in_its_container(tmp_path: Path) -> None:
    told = options(words(tmp_path))
    assert told["--user"] == ["2000:0"]
    assert told["--cap-drop"] == ["ALL"]
    assert told["--security-opt"] == ["no-new-privileges"]
    assert told["--read-only"] == [""]
    (scratch,) = told["--tmpfs"]
    assert scratch.startswith("/tmp:")
    assert "exec" in scratch.split(":")[1].split(",")
    assert int(told["--pids-limit"][0]) > 0
    assert not {"--privileged", "--cap-add", "--device", "--pid", "--uts", "--volumes-from"} & set(told)


def test_the_container_is_never_on_the_hosts_network_so_that_imds_is_a_hop_too_far(tmp_path: Path) -> None:
    told = options(words(tmp_path))
    assert told["--network"] == ["bridge"]
    assert told["--ipc"] == ["private"]
    assert "AWS_EC2_METADATA_DISABLED=true" in told["--env"]


def test_the_engine_is_reached_over_the_nodes_address_and_the_loopback_alone(tmp_path: Path) -> None:
    assert options(words(tmp_path))["--publish"] == ["10.0.0.5:8000:8000", "127.0.0.1:8000:8000"]
    unknown = options(words(tmp_path, address="0.0.0.0"))
    assert unknown["--publish"] == ["0.0.0.0:8000:8000"], "a node that nobody reaches serves nobody"


def test_the_container_writes_its_cache_and_only_reads_the_weights(tmp_path: Path) -> None:
    told, cache = options(words(tmp_path)), tmp_path / "cache"
    assert told["--volume"] == [f"{cache}/engine:/cache", f"{cache}/weights:/weights:ro"]
    folders = [text.partition("=")[2] for text in told["--env"] if "/" in text]
    assert len(folders) >= 6
    assert all(folder == "/cache" or folder.startswith("/cache/") for folder in folders)
    make_folders(settings(tmp_path))
    if os.geteuid() == 0:
        assert [(p.stat().st_uid, p.stat().st_gid) for p in (cache / "engine", cache / "engine/vllm")] == [
            (2000, 0),
            (2000, 0),
        ]
        assert (cache / "weights").stat().st_uid == 0


def test_a_link_that_the_engine_left_gives_it_nothing_of_the_machines(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives folders away")
    make_folders(settings(tmp_path))
    of_the_machine = tmp_path / "of-the-machine"
    of_the_machine.mkdir()
    (tmp_path / "cache/engine/vllm").rmdir()
    (tmp_path / "cache/engine/vllm").symlink_to(of_the_machine)
    make_folders(settings(tmp_path))
    assert of_the_machine.stat().st_uid == 0


def test_neither_the_key_nor_credentials_are_among_the_arguments(tmp_path: Path) -> None:
    assert SECRET not in " ".join(words(tmp_path))
    assert SECRET not in repr(PREPARED)
