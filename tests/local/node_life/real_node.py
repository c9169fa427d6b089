"""One node without a fleet: the agent over real vLLM, its metadata service, and an `aws` that takes notes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpu_node_bootstrap.node_agent import control
from gpu_node_bootstrap.node_agent.errors import ControlError
from local_aws.engines.commands import MODEL_DIRECTORY, engine_command, engine_environment
from local_aws.nodes import processes
from local_aws.nodes.imds import InstanceIdentity, MetadataService, SpotAction

REPOSITORY = Path(__file__).resolve().parents[3]
ENGINE_PORT, HEALTH_PORT = 8000, 8081
START_SECONDS = 240.0
_CORE = "VLLM::EngineCore"
_AWS = '#!/bin/sh\necho "$*" >> {calls}\n'


def wait_for(what: str, look: Callable[[], Any], *, seconds: float) -> Any:
    """Return the first truthy answer of `look`; fail with `what` was awaited."""
    give_up_at = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < give_up_at, f"after {seconds:g} s there was still no {what}"
        time.sleep(0.1)
    return found


class RealNode:
    """A context manager; at its end nothing of the node is left."""

    def __init__(
        self,
        folder: Path,
        *,
        number: int,
        model: Path = MODEL_DIRECTORY,
        engine_environment_changes: Mapping[str, str] | None = None,
        **settings: str | float,
    ) -> None:
        self.instance_id = f"i-{number:017x}"
        self.address = f"127.83.0.{number}"
        self.folder = folder
        self.kernel_log = folder / "kmsg"
        self._socket = folder / "run" / "agent.sock"
        self._calls = folder / "aws-calls"
        self._model = model
        self._engine_changes = dict(engine_environment_changes or {})
        self._settings = settings
        self._imds = MetadataService(self._identity(), None)
        self._clients = ThreadPoolExecutor(max_workers=8)
        self.agent: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RealNode:
        for part in ("bin", "tmp", "run"):
            (self.folder / part).mkdir(parents=True)
        self.kernel_log.touch()
        aws = self.folder / "bin" / "aws"
        aws.write_text(_AWS.format(calls=self._calls))
        aws.chmod(0o755)
        self._imds.start()
        with (self.folder / "agent.log").open("wb") as log:
            self.agent = processes.spawn(
                [sys.executable, "-m", "node_agent", "run"],
                environment=self._environment(),
                cwd=self.folder,
                output=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._imds.stop()
        processes.kill_marked(self.instance_id)
        self._clients.shutdown(wait=False, cancel_futures=True)

    def status(self) -> dict[str, Any]:
        """Return the agent's status, empty while nobody answers."""
        try:
            answer = control.ask(str(self._socket), {"do": "status"}, connect_seconds=0)
        except (ControlError, OSError):
            return {}
        return dict(answer["status"])

    def health(self) -> int:
        """Return what the load balancer is told; 0: nothing."""
        try:
            with urllib.request.urlopen(f"http://{self.address}:{HEALTH_PORT}/healthz", timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as err:
            return err.code
        except OSError:
            return 0

    def wait_state(self, state: str, *, seconds: float = START_SECONDS) -> dict[str, Any]:
        """Wait until the agent says that it is in a state, and return its status then."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            return status if status.get("state") == state else None

        try:
            return dict(wait_for(f"state {state}", look, seconds=seconds))
        except AssertionError as err:
            raise AssertionError(f"{err}; status {self.status()}; log:\n{self.log_text()[-4000:]}") from err

    def notice(self, *, seconds: float) -> float:
        """Let IMDS announce the node's end; return it."""
        at = time.time() + seconds
        self._imds.spot_action = SpotAction("terminate", at)
        return at

    def drain(self, *, seconds: float) -> dict[str, Any]:
        """Drain by command, as Run Command does, and return the outcome."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
        request = {"do": "drain", "deadlines": f"{self.instance_id}@{stamp}"}
        return dict(control.ask(str(self._socket), request, connect_seconds=5)["outcome"])

    def complete(self, tokens: int, *, timeout: float = 60) -> Future[int]:
        """Begin a completion of exactly so many tokens; its result is their number."""
        return self._clients.submit(self._complete, tokens, timeout)

    def _complete(self, tokens: int, timeout: float) -> int:
        body = {"model": "tiny", "prompt": "Once", "max_tokens": tokens, "ignore_eos": True}
        request = urllib.request.Request(
            f"http://{self.address}:{ENGINE_PORT}/v1/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return int(json.load(answer)["usage"]["completion_tokens"])

    def engine_processes(self) -> dict[int, str]:
        """Return vLLM's processes by what they call themselves, found without asking the agent."""
        found = {}
        for pid in processes.marked_pids(self.instance_id):
            with contextlib.suppress(OSError):
                name = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if "vllm.entrypoints" in name or name.startswith("VLLM::"):
                    found[pid] = name
        # The guard's own command line names the engine's.
        return {pid: name for pid, name in found.items() if "process_guard" not in name}

    def engine_core(self) -> int:
        """Return the process that holds the model, where it is one of its own."""
        return next(
            pid for pid, name in self.engine_processes().items() if name.startswith("VLLM::EngineCore")
        )

    def api_server(self) -> int:
        """Return the process that answers HTTP."""
        return next(pid for pid, name in self.engine_processes().items() if not name.startswith(_CORE))

    def signal_engine(self, number: signal.Signals) -> None:
        """Send a signal to all of vLLM's processes."""
        for pid in self.engine_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def aws_calls(self, *words: str) -> list[str]:
        """Return the AWS command lines that hold all these words."""
        calls = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [call for call in calls if all(word in call for word in words)]

    def log_text(self) -> str:
        """Return what the agent and the engine printed."""
        return (self.folder / "agent.log").read_text(errors="replace")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the agent's log lines of one event."""
        lines = [json.loads(line) for line in self.log_text().splitlines() if line.startswith('{"at"')]
        return [line for line in lines if line["event"] == name]

    def _identity(self) -> InstanceIdentity:
        return InstanceIdentity(
            instance_id=self.instance_id,
            instance_type="g6e.xlarge",
            ami_id="ami-0123456789abcdef0",
            region="eu-west-1",
            zone="eu-west-1a",
            account_id="123456789012",
            address=self.address,
            life_cycle="spot",
            tags=None,
            role_name=None,
            instance_profile_arn=None,
            tokens_required=True,
        )

    def _environment(self) -> dict[str, str]:
        command = engine_command("real", host=self.address, port=ENGINE_PORT, model=str(self._model))
        settings = {
            "FLEET": "chat",
            "REGION": "eu-west-1",
            "ASG_NAME": "spot-failover-chat",
            "LIFECYCLE_HOOK": "spot-failover-ready",
            "ENGINE": "process",
            "SERVED_MODEL_NAME": "tiny",
            "ENGINE_COMMAND": json.dumps(command),
            "ENGINE_HOST": self.address,
            "HEALTH_HOST": self.address,
            "SOCKET": str(self._socket),
            "IMDS_ENDPOINT": self._imds.endpoint,
            "KERNEL_LOG": str(self.kernel_log),
            "CONTAINER_CACHE": str(self.folder / "cache"),
            "SETTLE_SECONDS": "1",
            "DEADLINE_MARGIN_SECONDS": "1",
            **{name: str(value) for name, value in self._settings.items()},
        }
        return {
            **engine_environment("real"),
            **{f"SPOT_FAILOVER_{name}": value for name, value in settings.items()},
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY / "gpu_node_bootstrap"),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            # vLLM renames its processes; the mark by which they are found must survive that.
            "SPT_NOENV": "1",
            processes.NODE_MARK: self.instance_id,
            **self._engine_changes,
        }
