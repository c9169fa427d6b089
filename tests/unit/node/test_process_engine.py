"""The engine as a process: what it is started with, and what is kept of what it says."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpu_node_bootstrap.node_agent.log import Log
from gpu_node_bootstrap.node_agent.preparation import Prepared
from gpu_node_bootstrap.node_agent.process_engine import TAIL_LINES, ProcessEngine

SECRET = "sk-do-not-tell"


def started(*command: str, prepared: Prepared | None = None) -> ProcessEngine:
    engine = ProcessEngine(command, log=Log(stream=io.StringIO()))
    engine.start(prepared or Prepared("some/model"))
    return engine


def ended(kit: Any, engine: ProcessEngine) -> list[str]:
    kit.eventually(lambda: engine.exit_status() is not None)
    return engine.log_tail(TAIL_LINES)


def test_the_prepared_model_stands_where_the_command_names_it_and_arguments_follow(kit: Any) -> None:
    prepared = Prepared("/weights/4f", ("--load-format", "runai_streamer"))
    engine = started("echo", "--model={model}", "--port", "1", prepared=prepared)
    assert ended(kit, engine) == ["--model=/weights/4f --port 1 --load-format runai_streamer"]


def test_the_environment_reaches_the_engine_and_no_command_line(kit: Any) -> None:
    prepared = Prepared("some/model", environment={"VLLM_API_KEY": SECRET})
    engine = started("bash", "-c", "echo $VLLM_API_KEY; sleep 60", prepared=prepared)
    try:
        kit.eventually(lambda: engine.log_tail(1) == [SECRET])
        pids: Any = engine.describe()["pids"]
        assert pids
        for pid in pids:
            assert SECRET not in Path(f"/proc/{pid}/cmdline").read_text()
        assert "VLLM_API_KEY" not in os.environ
    finally:
        engine.kill()


def test_what_a_crashed_engine_said_last_is_kept_and_passed_on(
    kit: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = started("bash", "-c", "echo loading; echo 'CUDA error: device lost' >&2; exit 3")
    assert ended(kit, engine) == ["loading", "CUDA error: device lost"]
    assert engine.exit_status() == 3
    assert capfd.readouterr().out == "loading\nCUDA error: device lost\n"
    assert engine.log_tail(1) == ["CUDA error: device lost"]


def test_a_flood_of_output_blocks_no_engine_and_fills_no_memory(kit: Any) -> None:
    engine = started("bash", "-c", "seq 1 50000; head -c 300000 /dev/zero | tr '\\0' x; echo; echo end")
    kit.eventually(lambda: engine.exit_status() is not None, what="the end of the flood")
    tail = engine.log_tail(10 * TAIL_LINES)
    assert len(tail) <= TAIL_LINES
    assert tail[-1] == "end"
    assert max(map(len, tail)) <= 4096


def test_a_kill_keeps_the_tail(kit: Any) -> None:
    engine = started("bash", "-c", "echo alive; sleep 60")
    kit.eventually(lambda: engine.log_tail(5) == ["alive"])
    engine.kill()
    assert engine.log_tail(5) == ["alive"]


def test_an_engine_whose_agent_dies_dies_with_it_however_much_it_says(kit: Any, tmp_path: Path) -> None:
    agent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from tests.unit.node.test_process_engine import started;"
            "e = started('bash', '-c', 'while :; do echo line; done');"
            f"open({str(tmp_path / 'pid')!r}, 'w').write(str(e.describe()['pids'][0])); time.sleep(60)",
        ],
        cwd=kit.REPOSITORY,
        stdout=subprocess.DEVNULL,
    )
    pid = int(kit.eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    agent.kill()
    agent.wait()
    kit.eventually(lambda: not kit.alive([pid]), what="the engine's end")
