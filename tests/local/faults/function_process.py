"""Runs a deployed function's own code under a clock that the test holds.

Started with nothing but the bundle and Lambda's runtime packages on its path. It imports the function once,
as a cold start does, and forks: each fork is an execution environment, fresh, and a crash is the end of a
process. Commands come as JSON lines on one descriptor, answers leave on another; their numbers are the two
arguments.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import Any

from botocore.client import BaseClient
from botocore.exceptions import ReadTimeoutError
from botocore.httpsession import URLLib3Session

CRASHED, TIMED_OUT = 70, 71
LOST_HEADER = "x-local-aws-lost"

_real_monotonic = time.monotonic


class Clock:
    """The function's clock: set for each invocation. Sleeping and waiting for lost answers take no time."""

    def __init__(self) -> None:
        self._begun_at = time.time()
        self._began = _real_monotonic()
        self.skipped = 0.0
        self.timeout = 0.0

    def begin(self, at: float, timeout: float) -> None:
        self._begun_at, self._began, self.skipped, self.timeout = at, _real_monotonic(), 0.0, timeout

    @property
    def elapsed(self) -> float:
        return _real_monotonic() - self._began + self.skipped

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._begun_at + self.elapsed, UTC)

    def skip(self, seconds: float) -> None:
        """Let time pass. A function whose own time is up is killed, as Lambda does it."""
        self.skipped += seconds
        if self.timeout and self.elapsed > self.timeout:
            sys.stdout.flush()
            os._exit(TIMED_OUT)


class Calls:
    """The AWS calls of an invocation: after the `crash_after`-th the process ends, after another it waits."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.crash_after: int | None = None
        self.pause_after: int | None = None

    def ended(self, name: str) -> None:
        self.names.append(name)
        if len(self.names) == self.crash_after:
            sys.stdout.flush()
            os._exit(CRASHED)
        if len(self.names) == self.pause_after:
            tell({"paused": list(self.names)})
            next_command()


class Context:
    """What the handlers' decorators read of Lambda's context object."""

    memory_limit_in_mb = "1769"
    function_version = "$LATEST"

    def __init__(self, clock: Clock, request_id: str) -> None:
        self.aws_request_id = request_id
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.invoked_function_arn = f"arn:aws:lambda:us-east-1:123456789012:function:{self.function_name}"
        self._clock = clock

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._clock.timeout - self._clock.elapsed) * 1000))


def tell(answer: dict[str, Any]) -> None:
    os.write(int(sys.argv[2]), json.dumps(answer, default=str).encode() + b"\n")


def next_command() -> dict[str, Any] | None:
    """Read one line. Each is answered before the next is sent, so nothing of another reader's is taken."""
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(int(sys.argv[1]), 65536)
        if not chunk:
            return None
        line += chunk
    command: dict[str, Any] = json.loads(line)
    return command


def hold_time(clock: Clock) -> None:
    """Put the clock in the place of the functions' one clock, and of every sleep of the SDK."""
    for module, name, held in (
        (time, "sleep", clock.skip),
        (importlib.import_module("spot_failover.timestamps"), "utc_now", clock.now),
    ):
        setattr(module, name, held)


def watch_calls(clock: Clock, calls: Calls) -> None:
    """Count calls as their caller sees them, and take a lost answer for the timeout that it would end in."""
    client: Any = BaseClient
    session: Any = URLLib3Session
    make_api_call, send, initialise = client._make_api_call, session.send, session.__init__

    def counted(self: Any, name: str, params: Any) -> Any:
        try:
            return make_api_call(self, name, params)
        finally:
            calls.ended(f"{self.meta.service_model.service_name}:{name}")

    def init(self: Any, *args: Any, **given: Any) -> None:
        initialise(self, *args, **given)
        timeout = given.get("timeout")
        self.read_seconds = timeout[1] if isinstance(timeout, (tuple, list)) else timeout or 60

    def sent(self: Any, request: Any) -> Any:
        response = send(self, request)
        if LOST_HEADER in response.headers:
            clock.skip(self.read_seconds)
            raise ReadTimeoutError(endpoint_url=request.url)
        return response

    client._make_api_call = counted
    session.__init__, session.send = init, sent


def serve(handler: Any, clock: Clock, calls: Calls) -> None:
    """Be one execution environment, until the next `end`."""
    tell({"begun": os.getpid()})
    while (command := next_command()) is not None and command["do"] == "invoke":
        calls.names = []
        calls.crash_after, calls.pause_after = command.get("crash_after"), command.get("pause_after")
        clock.begin(command["at"], command["timeout"])
        try:
            answer = {"response": handler(command["event"], Context(clock, command["request_id"]))}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.flush()
        tell({**answer, "calls": calls.names, "skipped": clock.skipped})


def main() -> None:
    clock, calls = Clock(), Calls()
    hold_time(clock)
    watch_calls(clock, calls)
    module, _, name = os.environ["_HANDLER"].rpartition(".")
    handler = getattr(importlib.import_module(module), name)
    gc.freeze()
    tell({"ready": True})
    while (command := next_command()) is not None:
        assert command["do"] == "begin", command
        pid = os.fork()
        if pid == 0:
            serve(handler, clock, calls)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        tell({"ended": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    main()
