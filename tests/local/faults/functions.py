"""The deployed functions, driven call by call: their code, environment and role; the test's clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_aws.control_client import Control
from tests.local.faults import function_process
from tests.local.faults.function_process import CRASHED, TIMED_OUT


@dataclass(frozen=True)
class Invocation:
    """What came of one invocation. `ended` is why its environment is gone, if it is: "crashed", "timed out".

    `skipped_seconds` passed on its clock alone, in waits that took no time.
    """

    response: Mapping[str, Any] | None
    error: str | None
    calls: tuple[str, ...]
    skipped_seconds: float
    ended: str | None = None


class DeployedFunction:
    """One function's process; `environment` forks an execution environment that has handled nothing yet."""

    def __init__(self, control: Control, name: str, log: Path) -> None:
        about = control.function_environment(name)
        self.name = name
        self.log_path = log
        self.timeout_seconds = float(about["timeout_seconds"])
        self.variables: Mapping[str, str] = about["variables"]
        commands, self._commands = os.pipe()
        answers, answering = os.pipe()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-P", function_process.__file__, str(commands), str(answering)],
                cwd=about["bundle"],
                env={
                    **self.variables,
                    "PYTHONPATH": f"{about['bundle']}:{about['runtime']}",
                    "_HANDLER": about["handler"],
                    "LAMBDA_TASK_ROOT": about["bundle"],
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(commands, answering),
            )
        os.close(commands)
        os.close(answering)
        self._answers = os.fdopen(answers, "rb")
        self._alive = False

    def wait_until_ready(self) -> None:
        """Wait for the cold start's end."""
        assert self._answer() == {"ready": True}

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Invoke in one execution environment; a further one takes its place when it dies."""
        try:
            yield
        finally:
            self.end_environment()

    def end_environment(self) -> None:
        """Let the next invocation be a cold one."""
        if self._alive:
            self._send({"do": "end"})
            self._answer()
            self._alive = False

    def invoke(
        self,
        event: Mapping[str, Any],
        *,
        at: float,
        crash_after: int | None = None,
    ) -> Invocation:
        """Run the handler once, at this time (epoch seconds); it may be made to die after its n-th call."""
        self._begin(event, at=at, crash_after=crash_after)
        return self._result(self._answer())

    def invoke_until(self, event: Mapping[str, Any], *, at: float, pause_after: int) -> Invocation | None:
        """Run the handler until its n-th call has ended, and leave it there; or return what it came to."""
        self._begin(event, at=at, pause_after=pause_after)
        answer = self._answer()
        return None if "paused" in answer else self._result(answer)

    def resume(self) -> Invocation:
        """Let a paused invocation go on to its end."""
        self._send({"do": "resume"})
        return self._result(self._answer())

    def stop(self) -> None:
        """End the process."""
        os.close(self._commands)
        self._process.wait(10)
        self._answers.close()

    def _begin(self, event: Mapping[str, Any], *, at: float, **more: Any) -> None:
        if not self._alive:
            self._send({"do": "begin"})
            assert "begun" in self._answer()
            self._alive = True
        request = {"event": event, "at": at, "timeout": self.timeout_seconds, "request_id": str(uuid.uuid4())}
        self._send({"do": "invoke", **request, **more})

    def _result(self, answer: Mapping[str, Any]) -> Invocation:
        if "ended" in answer:
            self._alive = False
            ways = {CRASHED: "crashed", TIMED_OUT: "timed out"}
            assert answer["ended"] in ways, f"{self.name} ended with {answer['ended']}; see {self.log_path}"
            return Invocation(None, None, (), 0.0, ways[answer["ended"]])
        return Invocation(
            answer.get("response"), answer.get("error"), tuple(answer["calls"]), float(answer["skipped"])
        )

    def _send(self, command: Mapping[str, Any]) -> None:
        data = json.dumps(command).encode() + b"\n"
        while data:
            data = data[os.write(self._commands, data) :]

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        assert line, f"the process of {self.name} ended; {self.log_path} ends: {self._log_tail()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _log_tail(self) -> str:
        return self.log_path.read_text(errors="replace")[-3000:]
