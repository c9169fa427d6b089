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
from gpu_node_bootstrap.node_agent.container_engine import ContainerEngine, run_arguments
from gpu_node_bootstrap.node_agent.log import Log
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
    [ -e "$state/pulling" ] && exec sleep 60
    [ -e "$state/no-image" ] && { echo "Unable to find image" >&2; exit 125; }
    ( setsid %(engine)s & echo $! > "$state/pid"; wait $!; echo $? > "$state/status" ) > /dev/null 2>&1 &
    while [ ! -s "$state/pid" ]; do sleep 0.01; done
    echo 4f5e ;;
  inspect) [ -e "$state/pid" ] || gone; cat "$state/pid" ;;
  wait) while [ ! -s "$state/status" ]; do sleep 0.02; done; cat "$state/status" ;;
  kill) [ -e "$state/pid" ] || gone; kill -s "$2" -- "-$(cat "$state/pid")" ;;
  rm) [ -e "$state/pid" ] || gone; kill -s KILL -- "-$(cat "$state/pid")" 2> /dev/null; rm "$state/pid" ;;
esac
"""


ENGINES: list[ContainerEngine] = []


@pytest.fixture
def docker(kit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
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
    yield state
    for misbehaviour in ("daemon-hangs", "pulling"):
        (state / misbehaviour).unlink(missing_ok=True)
    while ENGINES:
        ENGINES.pop().kill()


def container() -> ContainerEngine:
    engine = ContainerEngine(["--gpus", "all", "image"], log=Log(stream=io.StringIO()))
    ENGINES.append(engine)
    return engine


def calls(state: Path) -> list[str]:
    return [line.split()[0] for line in (state / "calls").read_text().splitlines()]


def started(kit: Any, state: Path) -> ContainerEngine:
    engine = container()
    engine.start()
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


def test_a_kill_during_the_pull_ends_the_pull(kit: Any, docker: Path) -> None:
    (docker / "pulling").touch()
    engine = container()
    engine.start()
    kit.eventually(lambda: "run" in calls(docker) if (docker / "calls").exists() else False)
    assert engine.exit_status() is None
    engine.kill()
    assert engine.exit_status() is not None


def test_an_image_that_cannot_be_had_is_asked_for_again(kit: Any, docker: Path) -> None:
    (docker / "no-image").touch()
    engine = container()
    engine.start()
    kit.eventually(lambda: (docker / "calls").exists() and calls(docker).count("run") >= 2)
    assert engine.exit_status() is None
    (docker / "no-image").unlink()
    port = int((docker / "port").read_text())
    kit.eventually(lambda: completes(kit.HOST, port), what="a completion")


def test_a_kill_ends_the_tries_for_an_image(kit: Any, docker: Path) -> None:
    (docker / "no-image").touch()
    engine = container()
    engine.start()
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


def test_the_container_is_run_as_the_fleet_says() -> None:
    settings = Settings.from_environment(
        {
            "SPOT_FAILOVER_FLEET": "chat",
            "SPOT_FAILOVER_REGION": "eu-west-1",
            "SPOT_FAILOVER_ASG_NAME": "spot-failover-chat",
            "SPOT_FAILOVER_IMAGE": "vllm/vllm-openai:v0.32.0",
            "SPOT_FAILOVER_MODEL": "some/model",
            "SPOT_FAILOVER_SERVED_MODEL_NAME": "model",
            "SPOT_FAILOVER_ENGINE_ARGS": '["--max-model-len", "8192"]',
        }
    )
    arguments = run_arguments(settings)
    image = arguments.index("vllm/vllm-openai:v0.32.0")
    served = " ".join(arguments[image + 1 :])
    assert served.startswith("serve some/model --served-model-name model --host 0.0.0.0 --port 8000 ")
    assert served.endswith("--shutdown-timeout 60 --max-model-len 8192")
    before = " ".join(arguments[:image])
    for option in ("--init", "--gpus all", "--publish 8000:8000", "--restart no", "--entrypoint vllm"):
        assert option in before
    # An Application Load Balancer keeps connections for up to 4000 s and must never meet a closed one.
    (keep_alive,) = (text for text in arguments if text.startswith("VLLM_HTTP_TIMEOUT_KEEP_ALIVE="))
    assert int(keep_alive.partition("=")[2]) > 4000
    assert "--privileged" not in before
    assert os.sep not in before.replace("/var/lib/spot-failover/cache:/root/.cache", "")
