"""Lambda in memory: the deployed handlers themselves, loaded as at a cold start, behind their queues.

A handler's module is executed for each execution environment, with its settings in the environment and
botocore making clients of memory; nothing of the function is replaced. One environment serves one invocation
at a time and keeps what it remembers.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from unittest.mock import patch

import spot_failover

from tests.simulation.queues import Message, Queue, Sqs, attributes
from tests.simulation.timeline import Killed, Process, Timeline

LAMBDAS = Path(str(spot_failover.__file__)).parents[1]
BATCH_SIZE = 10
TIMEOUT_SECONDS = 20.0
COLD_START_SECONDS = 0.5

Handler = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Context:
    """What Lambda tells a handler of its invocation."""

    function_name: str
    aws_request_id: str
    ends_at: float
    now: Callable[[], float]
    memory_limit_in_mb: int = 1769
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:123456789012:function:spot-failover"

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the invocation may still last."""
        return max(0, int((self.ends_at - self.now()) * 1000))


@cache
def _code(name: str) -> CodeType:
    path = LAMBDAS / name / "handler.py"
    return compile(path.read_text(), str(path), "exec")


def load(name: str, environment: Mapping[str, str]) -> Handler:
    """Execute a function's handler module anew and return its handler."""
    module: dict[str, Any] = {"__name__": f"{name}.handler", "__package__": name}
    with patch.dict(os.environ, environment):
        exec(_code(name), module)
    handler: Handler = module["handler"]
    return handler


@dataclass
class Function:
    """One function and its execution environments. `problems` are errors that left the handler."""

    name: str
    environment: Mapping[str, str]
    timeline: Timeline
    timeout: float = TIMEOUT_SECONDS
    problems: list[str] = field(default_factory=list)
    invocations: int = 0
    crashes: int = 0
    _idle: list[Handler] = field(default_factory=list)
    _requests: count[int] = field(default_factory=lambda: count(1))

    def invoke(self, event: Any, ended: Callable[[Any], None]) -> None:
        """Invoke it; `ended` gets its answer, or None where it died, failed or took too long."""
        process = Process(self.name, lambda: self._run(event, ended))
        self.invocations += 1
        self.timeline.start(process)
        # Lambda's clock starts with the handler: a cold start is beside it.
        limit = self.timeout + (0.0 if self._idle else COLD_START_SECONDS)
        self.timeline.after(limit, lambda: self.timeline.kill(process))

    def _run(self, event: Any, ended: Callable[[Any], None]) -> None:
        answer = None
        try:
            if self._idle:
                handler = self._idle.pop()
            else:
                self.timeline.wait(COLD_START_SECONDS)
                handler = load(self.name, self.environment)
            context = self._context()
            answer = handler(event, context)
            self._idle.append(handler)
        except Killed:
            self.crashes += 1
        except Exception as error:
            self.problems.append(f"{self.name}: {type(error).__name__}: {error}")
        finally:
            ended(answer)

    def _context(self) -> Context:
        return Context(
            function_name=self.name,
            aws_request_id=f"request-{next(self._requests)}",
            ends_at=self.timeline.now + self.timeout,
            now=lambda: self.timeline.now,
        )


@dataclass
class EventSource:
    """An event source mapping: a queue polled, at most `concurrency` batches at once."""

    function: Function
    queue: Queue
    sqs: Sqs
    concurrency: int
    busy: int = 0

    def begin(self) -> None:
        """Poll whenever something can be received."""
        self.queue.arrived = lambda when: self.function.timeline.at(when + 0.01, self.poll)

    def poll(self) -> None:
        """Hand over as many batches as may run."""
        while self.busy < self.concurrency:
            messages = self.sqs.receive(self.queue, BATCH_SIZE)
            if not messages:
                return
            self.busy += 1
            self._hand_over(messages)

    def _hand_over(self, messages: Sequence[Message]) -> None:
        handles = {one.message_id: one.handle for one in messages}

        def ended(answer: Any) -> None:
            self.busy -= 1
            failed = failed_messages(answer, set(handles))
            for message_id, handle in handles.items():
                if message_id not in failed:
                    self.sqs.delete_message(QueueUrl=self.queue.url, ReceiptHandle=handle)
            self.function.timeline.after(0.01, self.poll)

        self.function.invoke({"Records": [_record(one, self.queue) for one in messages]}, ended)


def failed_messages(answer: Any, batch: set[str]) -> set[str]:
    """Return the ids that come back. What is no partial batch response fails the whole batch."""
    if not isinstance(answer, dict) or not isinstance(answer.get("batchItemFailures"), list):
        return batch
    failed = {one["itemIdentifier"] for one in answer["batchItemFailures"]}
    return failed if failed <= batch else batch


def _record(message: Message, queue: Queue) -> dict[str, Any]:
    return {
        "messageId": message.message_id,
        "receiptHandle": message.handle,
        "body": message.body,
        "attributes": attributes(message),
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-1:123456789012:{queue.url.rpartition('/')[2]}",
        "awsRegion": "us-east-1",
    }


def import_all() -> None:
    """Import all modules of the functions but the handlers, which are executed anew for each environment."""
    for path in sorted(LAMBDAS.glob("*/*.py")):
        if path.stem not in ("__init__", "handler"):
            import_module(f"{path.parent.name}.{path.stem}")


def packages() -> list[ModuleType]:
    """Return all modules of the functions that are imported."""
    return [
        module
        for name, module in list(sys.modules.items())
        if "." in name and str(getattr(module, "__file__", None) or "").startswith(str(LAMBDAS))
    ]
