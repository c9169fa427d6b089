"""The engines of local nodes: how each is started, and how long one takes to start by itself.

`real` is vLLM's CPU build, with a tiny model; `emulated` is `emulated_engine.py`. Both answer under the same
model name, so nothing but this module needs to know which one runs.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_node_bootstrap.node_agent.container_arguments import KEEP_ALIVE_SECONDS
from local_aws.world import EngineKind

REPOSITORY = Path(__file__).resolve().parents[2]
ENGINE_PYTHON = REPOSITORY / ".venv-engine" / "bin" / "python"
CACHE_DIRECTORY = REPOSITORY / ".cache"
MODEL_DIRECTORY = CACHE_DIRECTORY / "tiny-model"
SERVED_MODEL_NAME = "tiny"
PREPARED_MODEL = "{model}"
"""In a node's engine command: what the node agent prepared (see process_engine.py)."""
MAX_MODEL_LEN = 32768
READY_POLL_SECONDS = 0.1
# Linux with autogroups shares the processor between sessions first, and nice counts within a session only: an
# engine is a session of its own, so its group has to step back as well. Where there are none, nice will do.
_STEP_BACK = (
    *("sh", "-c", '{ echo 10 > /proc/self/autogroup; } 2> /dev/null; exec nice -n 10 "$@"'),
    "engine",  # $0
)


class EngineStartError(RuntimeError):
    """An engine ended, or did not answer a completion in time; the message ends with the tail of its log."""


def engine_command(
    kind: EngineKind,
    *,
    host: str,
    port: int,
    model: str = str(MODEL_DIRECTORY),
    shutdown_timeout: int = 60,
    start_seconds: float | None = None,
    tokens_per_second: float | None = None,
) -> list[str]:
    """Return the engine's whole command line. Its paths are absolute, so that it runs in any directory.

    `model` may be PREPARED_MODEL, which the node agent replaces. `shutdown_timeout` is vLLM's own flag,
    in seconds. `start_seconds` and `tokens_per_second` set the pace of the emulated engine (None: its
    defaults); the real one has its own.
    """
    if kind == "real":
        return _vllm_command(host=host, port=port, model=model, shutdown_timeout=shutdown_timeout)
    command = [sys.executable, "-m", "local_aws.engines.emulated_engine"]
    command += ["--host", host, "--port", str(port), "--served-model-name", SERVED_MODEL_NAME]
    command += ["--model", model]
    command += ["--max-model-len", str(MAX_MODEL_LEN), "--shutdown-timeout", str(shutdown_timeout)]
    if start_seconds is not None:
        command += ["--start-seconds", str(start_seconds)]
    if tokens_per_second is not None:
        command += ["--tokens-per-second", str(tokens_per_second)]
    return command


def _vllm_command(*, host: str, port: int, model: str, shutdown_timeout: int) -> list[str]:
    # On AWS an engine has a machine of its own. Here it takes a whole core whenever it has a request, and the
    # functions and APIs of the local AWS, which would not share that core, must not wait for it.
    command = list(_STEP_BACK)
    # The `vllm` command of the CPU build fails for want of a distribution of that name; its module works.
    command += [str(ENGINE_PYTHON), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", model, "--served-model-name", SERVED_MODEL_NAME]
    command += ["--host", host, "--port", str(port), "--max-model-len", str(MAX_MODEL_LEN)]
    # In bfloat16 vLLM uses AMX where the processor names it: SIGILL where the hypervisor forbids it.
    command += ["--dtype", "float32"]
    command += ["--enforce-eager", "--kv-cache-memory-bytes", str(128 * 1024 * 1024)]
    command += ["--distributed-executor-backend", "uni", "--shutdown-timeout", str(shutdown_timeout)]
    return command


def engine_environment(kind: EngineKind, *, cache_dir: Path = CACHE_DIRECTORY) -> dict[str, str]:
    """Return what the engine needs in its environment beside PATH; engines may share one cache directory."""
    if kind == "emulated":
        return {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(REPOSITORY)}
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cache_dir / "huggingface"),
        "VLLM_NO_USAGE_STATS": "1",
        # As in the container: longer than a load balancer keeps a connection.
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": str(KEEP_ALIVE_SECONDS),
        "DO_NOT_TRACK": "1",
        "VLLM_CACHE_ROOT": str(cache_dir / "vllm"),
        "VLLM_CONFIG_ROOT": str(cache_dir / "vllm-config"),
        "PYTHONUNBUFFERED": "1",
    }


@dataclass(frozen=True)
class BareEngine:
    """An engine that runs without agent or node, in a process group of its own."""

    process: subprocess.Popen[bytes]
    host: str
    port: int
    start_seconds: float
    """From spawning the process to the answer of a one-token completion."""


@contextlib.contextmanager
def bare_engine(
    kind: EngineKind,
    *,
    host: str,
    port: int,
    log_path: Path,
    model_dir: Path = MODEL_DIRECTORY,
    cache_dir: Path = CACHE_DIRECTORY,
    timeout_seconds: float = 180,
    command: list[str] | None = None,
) -> Iterator[BareEngine]:
    """Start an engine, wait until it answers a one-token completion, and kill its whole group at the end.

    `command` replaces the default command line. Raises EngineStartError.
    """
    command = command or engine_command(kind, host=host, port=port, model=str(model_dir))
    environment = {**_inherited(os.environ), **engine_environment(kind, cache_dir=cache_dir)}
    log_path.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while not completes(host, port):
            if process.poll() is not None:
                raise EngineStartError(f"the engine ended with {process.returncode}\n{_tail(log_path)}")
            if time.monotonic() - started > timeout_seconds:
                raise EngineStartError(f"no completion within {timeout_seconds:g} s\n{_tail(log_path)}")
            time.sleep(READY_POLL_SECONDS)
        seconds = time.monotonic() - started
        yield BareEngine(process=process, host=host, port=port, start_seconds=seconds)
    finally:
        # SIGTERM can hang an engine for good (see emulated_engine.py); nothing of it is worth saving here.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def bare_start_seconds(kind: EngineKind, *, host: str, port: int, log_path: Path) -> float:
    """Return the seconds from the start of an engine's process to its first completion, nothing around it."""
    with bare_engine(kind, host=host, port=port, log_path=log_path) as engine:
        return engine.start_seconds


def completes(host: str, port: int, *, timeout_seconds: float = 10) -> bool:
    """Return whether the engine answers a one-token completion."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_seconds)
    body = {"model": SERVED_MODEL_NAME, "prompt": "a", "max_tokens": 1, "temperature": 0}
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status == 200 and bool(json.loads(answer.read())["choices"])
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return False
    finally:
        connection.close()


def _inherited(environment: Mapping[str, str]) -> dict[str, str]:
    # Without .pyc files vLLM's start takes three times as long.
    return {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _tail(path: Path, lines: int = 20) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
