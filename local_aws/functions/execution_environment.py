"""One Lambda execution environment: a process under Lambda's runtime client that runs a deployed bundle."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from local_aws.functions.function_log import FunctionLog
from local_aws.functions.runtime_api import Answer, Invocation, RuntimeApi

# AWS gives an initialisation 10 s. Here engines share the processor with it, and a slow import is no bug.
INIT_SECONDS = 60.0

TIMED_OUT = "Sandbox.Timedout"
EXITED = "Runtime.ExitError"


@dataclass(frozen=True)
class InvocationResult:
    """What came back. `error` is None on success, else Lambda's error type; `payload` is JSON either way."""

    payload: bytes
    error: str | None
    seconds: float
    init_seconds: float | None = None
    """Set on a cold start: how long the process took until it asked for its first event."""


class ExecutionEnvironment:
    """Handles one invocation at a time; after a timeout or a crash it is not `usable` any more."""

    def __init__(
        self, *, handler: str, bundle: Path, runtime: Path, variables: Mapping[str, str], log: FunctionLog
    ) -> None:
        self.id = uuid.uuid4().hex
        self._log = log
        self._api = RuntimeApi()
        self._current: str | None = None
        self._begun = time.monotonic()
        self._is_cold = True
        own = {
            "PYTHONPATH": str(runtime),
            "PYTHONUNBUFFERED": "1",
            "AWS_LAMBDA_RUNTIME_API": self._api.address,
            "_HANDLER": handler,
            "LAMBDA_TASK_ROOT": str(bundle),
            "LAMBDA_RUNTIME_DIR": str(runtime),
        }
        self._process = subprocess.Popen(
            # -S: no site-packages but the runtime's; -m puts the working directory, the bundle, first.
            [sys.executable, "-S", "-m", "awslambdaric", handler],
            cwd=bundle,
            env={**variables, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that whatever the handler starts dies with it
        )
        self._reading = threading.Lock()
        threading.Thread(target=self._read_output, name=f"log-{self.id[:8]}", daemon=True).start()

    @property
    def usable(self) -> bool:
        """Whether another invocation may be sent here."""
        return self._process.poll() is None

    def invoke(self, invocation: Invocation, *, timeout_seconds: float) -> InvocationResult:
        """Run the handler once; one that takes longer than `timeout_seconds` is killed."""
        init_seconds = None
        if self._is_cold:
            failed = self.initialise()
            init_seconds = time.monotonic() - self._begun
            if failed is not None:
                return self._failed_init(failed, init_seconds)
        self._current = invocation.request_id
        begun = time.monotonic()
        self._api.send(invocation)
        answer = self._wait_for_answer(invocation, give_up=begun + timeout_seconds)
        if answer is None:
            answer = self._timed_out(invocation, timeout_seconds)
        seconds = time.monotonic() - begun
        if self.usable:
            self._api.idle.wait(1.0)  # once it asks for the next event, all it wrote is in the pipe
        self._drain_output()
        self._current = None
        return InvocationResult(answer.payload, answer.error, seconds, init_seconds)

    def kill(self) -> None:
        """End the process and all it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._api.close()

    def initialise(self) -> Answer | None:
        """Wait until the process waits for its first event; return what went wrong, or None."""
        failed = self._wait_for_init()
        self._is_cold = failed is not None
        return failed

    def _wait_for_init(self) -> Answer | None:
        """Return None once the process waits for its first event, or else what went wrong."""
        while not self._api.idle.wait(0.005):
            with contextlib.suppress(queue.Empty):
                return self._api.answers.get_nowait()
            if not self.usable:
                return _error(EXITED, "the process ended during its initialisation")
            if time.monotonic() - self._begun > INIT_SECONDS:
                return _error(TIMED_OUT, f"no initialisation within {INIT_SECONDS:.0f} s")
        return None

    def _failed_init(self, failed: Answer, seconds: float) -> InvocationResult:
        if failed.error not in (TIMED_OUT, EXITED):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)  # it ends by itself after it has told us why
        self._drain_output()
        self.kill()
        return InvocationResult(failed.payload, failed.error, 0.0, seconds)

    def _wait_for_answer(self, invocation: Invocation, *, give_up: float) -> Answer | None:
        """Return the handler's answer, or None when its time is up."""
        while (left := give_up - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                return self._api.answers.get(timeout=min(left, 0.1))
            if not self.usable:
                self.kill()
                text = f"Runtime exited with error: exit status {self._process.returncode}"
                return _error(EXITED, f"RequestId: {invocation.request_id} Error: {text}")
        return None

    def _timed_out(self, invocation: Invocation, timeout_seconds: float) -> Answer:
        self.kill()
        text = f"Task timed out after {timeout_seconds:.2f} seconds"
        self._log.write(
            f"{invocation.request_id} {text}", request_id=invocation.request_id, environment=self.id
        )
        return _error(TIMED_OUT, f"RequestId: {invocation.request_id} Error: {text}")

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as pipe:
            descriptor, unfinished = pipe.fileno(), b""
            while True:
                select.select([descriptor], [], [])
                with self._reading:  # so that an empty pipe and a free lock mean: all is in the log
                    chunk = os.read(descriptor, 65536)
                    *lines, unfinished = (unfinished + chunk).split(b"\n")
                    if not chunk and unfinished:
                        lines.append(unfinished)
                    for line in lines:
                        text = line.decode(errors="replace")
                        self._log.write(text, request_id=self._current, environment=self.id)
                if not chunk:
                    return

    def _drain_output(self) -> None:
        """Wait until what the process has written is in the log: whoever has the result may read it there."""
        assert self._process.stdout is not None
        give_up = time.monotonic() + 0.5
        while time.monotonic() < give_up and not self._process.stdout.closed:
            with self._reading:
                if _unread(self._process.stdout.fileno()) == 0:
                    return
            time.sleep(0.001)


def _unread(descriptor: int) -> int:
    try:
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0])
    except OSError:
        return 0  # closed meanwhile: the reader is through


def _error(kind: str, message: str) -> Answer:
    return Answer(kind, json.dumps({"errorType": kind, "errorMessage": message}).encode())
