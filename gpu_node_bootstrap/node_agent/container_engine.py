"""The engine as the official vLLM container, over the docker command line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time

from .commands import first_lines
from .container_arguments import run_arguments
from .container_user import CONTAINER_NAME, make_folders, secrets_file
from .engine import Engine
from .errors import EngineError
from .health_server import resolve_host
from .imds import Imds
from .log import Log
from .preparation import Prepared
from .settings import AUTO_HOST, EngineKind, Settings

CALL_SECONDS = 2.0
CLEANUP_SECONDS = 30.0
"""For a leftover container, which may hold a GPU: nothing waits for it but the start."""
NOT_STARTED = 125
"""`docker run`'s status when there is no container for a reason of the daemon's."""
UNREACHABLE = ("Cannot connect to the Docker daemon", "the daemon is running")
"""How the command line, before and since version 29, says that the daemon is not there. That may pass; what a
daemon itself refuses (a GPU or its runtime missing, a port taken, an option unknown) it refuses again."""
GONE = ("No such container", "is not running")
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0
_POLL_SECONDS = 0.05


class ContainerEngine(Engine):
    """Runs one container. Killing it ends its process namespace, and with that every core of the engine."""

    kind = EngineKind.CONTAINER

    def __init__(self, settings: Settings, *, log: Log, name: str = CONTAINER_NAME) -> None:
        self._settings = settings
        self._log = log
        self._name = name
        self._exit_status: int | None = None
        self._init_pid: int | None = None
        self._perhaps_there = False
        self._complaint = ""
        self._killed = threading.Event()
        self._client: subprocess.Popen[str] | None = None
        self._client_lock = threading.Lock()

    def start(self, prepared: Prepared) -> None:
        """Remove what an agent that died left behind, then create and start the container."""
        threading.Thread(target=self._live, args=(prepared,), name="container", daemon=True).start()

    def exit_status(self) -> int | None:
        """Return the container's status, or that of `docker run` when there never was one."""
        return self._exit_status

    def end_reason(self) -> str:
        """Return docker's own words where it started nothing."""
        if not self._complaint:
            return super().end_reason()
        return f"docker started no container, status {self._exit_status}: {self._complaint}"

    def terminate(self) -> None:
        """Send SIGTERM to the container's init, which passes it to the API server alone."""
        self._docker("kill", "--signal", "TERM", self._name)

    def kill(self) -> None:
        """Stop a start under way, kill the container and remove it.

        Raises EngineError also where a docker that hangs leaves open whether there is a container.
        """
        self._killed.set()
        with self._client_lock, contextlib.suppress(OSError):
            if self._client is not None:
                self._client.kill()
        self._docker("kill", "--signal", "KILL", self._name)
        if self._init_alive() and self._init_pid is not None:
            # A docker daemon that hangs does not save its containers.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._init_pid, signal.SIGKILL)
        removed = self._remove(CALL_SECONDS)
        if not removed and self._perhaps_there and self._init_pid is None:
            raise EngineError("docker did not say in time whether a container is left of a start")
        ends_at = time.monotonic() + 1
        while self._init_alive():
            if time.monotonic() > ends_at:
                raise EngineError(f"the container's process {self._init_pid} outlived SIGKILL")
            time.sleep(_POLL_SECONDS)
        if self._exit_status is None:
            self._exit_status = 128 + signal.SIGKILL

    def describe(self) -> dict[str, object]:
        """Return the container's name and the process id of its init on the host."""
        return {"container": self._name, "pid": self._init_pid}

    def log_tail(self, lines: int) -> list[str]:
        """Return what docker kept of the container's output, or its words on why there never was one.

        Empty once the container was removed.
        """
        if self._complaint:
            return self._complaint.splitlines()[-lines:]
        _, output = self._docker("logs", "--tail", str(lines), self._name)
        return output.splitlines()[-lines:]

    def _live(self, prepared: Prepared) -> None:
        try:
            status = self._run(prepared)
        except OSError as err:
            self._log.error("container_not_started", error=str(err))
            status, self._complaint = NOT_STARTED, str(err)
        if status != 0 or self._killed.is_set():
            self._exit_status = status or 128 + signal.SIGKILL
            return
        _, pid = self._docker("inspect", "--format", "{{.State.Pid}}", self._name)
        self._init_pid = int(pid) if pid.strip().isdigit() and int(pid) > 0 else None
        while not self._killed.is_set():
            status, output, _ = self._attended("wait", self._name)
            if status == 0 and output.strip().isdigit():
                self._exit_status = int(output.strip())
                return
            # A daemon that restarts breaks the wait; the container's own process says whether it lives.
            if not self._init_alive():
                self._exit_status = status or 1
                return
            time.sleep(1)

    def _run(self, prepared: Prepared) -> int:
        """Start the container; return docker's status. A daemon that is not there may yet come: try again.

        Whoever started the engine gives up, by `kill`, when it takes too long. Raises OSError.
        """
        make_folders(self._settings)
        address = resolve_host(AUTO_HOST, Imds(self._settings.imds_endpoint), log=self._log)
        pause = FIRST_PAUSE_SECONDS
        while True:
            self._remove(CLEANUP_SECONDS)
            with secrets_file(self._settings, prepared.environment) as secrets:
                arguments = run_arguments(self._settings, prepared, address=address, secrets=secrets)
                self._perhaps_there = True
                status, _, error = self._attended("run", "--detach", "--name", self._name, *arguments)
            self._perhaps_there = status != NOT_STARTED
            self._complaint = first_lines(error) if status else ""
            if status == 0 or self._killed.is_set():
                return status
            self._log.warning("container_not_started", status=status, error=self._complaint)
            if not any(text in error for text in UNREACHABLE):
                return status
            self._killed.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _attended(self, *arguments: str) -> tuple[int, str, str]:
        """Run docker for as long as it takes, unless `kill` ends it; return status, output and complaint."""
        with self._client_lock:
            if self._killed.is_set():
                return 128 + signal.SIGKILL, "", ""
            try:
                client = self._client = subprocess.Popen(
                    ["docker", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                )
            except OSError as err:
                return NOT_STARTED, "", str(err)
        output, error = client.communicate()
        return client.returncode, output, error

    def _remove(self, within_seconds: float) -> bool:
        """Remove the container; return whether there is none now, as far as docker says."""
        return self._docker("rm", "--force", self._name, within_seconds=within_seconds)[0]

    def _docker(self, *arguments: str, within_seconds: float | None = None) -> tuple[bool, str]:
        """Run a docker command that must be quick; return whether it did its work, and both its outputs.

        There is none to do on a container that is gone. What goes wrong is logged: a kill goes on regardless.
        """
        try:
            done = subprocess.run(
                ["docker", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=CALL_SECONDS if within_seconds is None else within_seconds,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            self._log.warning("docker_call_failed", command=arguments[0], error=str(err))
            return False, ""
        well = done.returncode == 0 or any(text in done.stderr for text in GONE)
        if not well:
            self._log.warning("docker_call_failed", command=arguments[0], error=done.stderr.strip())
        return well, done.stdout + done.stderr

    def _init_alive(self) -> bool:
        # Once docker has told the status, the number may be another process's.
        ended = self._exit_status is not None or self._init_pid is None
        return not ended and os.path.exists(f"/proc/{self._init_pid}")
