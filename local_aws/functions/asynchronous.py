"""Asynchronous invocation: events wait in Lambda's own queue, and come back when a function fails.

After the Lambda developer guide, "How Lambda handles errors and retries with asynchronous invocation": a
function that fails is run again after one minute and, the last time, after two more; an event that finds no
concurrency goes back for an interval that grows from one second to five minutes, for six hours.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from local_aws.functions.pool import Functions, ThrottledError
from local_aws.iam.sessions import CannotAssumeRoleError
from local_aws.world import World

log = logging.getLogger(__name__)

RETRY_SECONDS = (60.0, 120.0)
"""Waits before the second and the third attempt of an event that the function failed."""
LEAST_THROTTLED_SECONDS, MOST_THROTTLED_SECONDS = 1.0, 300.0
LONGEST_AGE_SECONDS = 6 * 3600.0
# Events that are worked on at once. An account has a thousand; a machine runs no thousand processes.
CONCURRENCY = 10


class Ended(Enum):
    """How an attempt ended."""

    WELL = "well"
    FAILED = "failed"
    THROTTLED = "throttled"


@dataclass(frozen=True)
class Attempts:
    """What came of an event so far. Times are seconds on one clock."""

    put_at: float
    failed: int = 0
    throttled: int = 0

    def after(self, ended: Ended) -> Attempts:
        """Return the same with one more attempt."""
        return replace(
            self,
            failed=self.failed + (ended is Ended.FAILED),
            throttled=self.throttled + (ended is Ended.THROTTLED),
        )


def wait_seconds(attempts: Attempts, ended: Ended, *, now: float) -> float | None:
    """Return for how long an event waits after its last attempt; None where it is not tried again.

    `attempts` count the last one, too.
    """
    match ended:
        case Ended.WELL:
            return None
        case Ended.FAILED:
            wait = RETRY_SECONDS[attempts.failed - 1] if attempts.failed <= len(RETRY_SECONDS) else None
        case Ended.THROTTLED:
            wait = min(MOST_THROTTLED_SECONDS, LEAST_THROTTLED_SECONDS * 2 ** (attempts.throttled - 1))
    if wait is None or now + wait - attempts.put_at > LONGEST_AGE_SECONDS:
        return None
    return wait


@dataclass(frozen=True)
class QueuedEvent:
    """One event for one function, by the function's ARN."""

    function: str
    payload: bytes
    attempts: Attempts


class AsynchronousInvocations:
    """Lambda's queue of events. Waits are multiplied by `time_factor`, which tests make small."""

    def __init__(self, world: World, functions: Functions) -> None:
        self._world = world
        self._functions = functions
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, QueuedEvent]] = []
        self._numbers = itertools.count()
        self._stopped = False
        self._time_factor = 1.0
        self._workers = self._make_workers(CONCURRENCY)
        threading.Thread(target=self._run, name="lambda-events", daemon=True).start()

    def put(self, function: str, payload: bytes) -> None:
        """Take an event in for the function with this ARN, and return at once."""
        now = time.monotonic()
        self._put(QueuedEvent(function, payload, Attempts(now)), due=now)

    def change(self, given: Mapping[str, Any]) -> dict[str, float]:
        """Set `time_factor`, `concurrency`, or both; see `Control.asynchronous_invocations`."""
        factor = float(given.get("time_factor") or 1.0)
        concurrency = int(given.get("concurrency") or CONCURRENCY)
        if factor <= 0 or concurrency < 1:
            raise ValueError(f"no waits of {factor} times theirs, {concurrency} at once")
        with self._changed:
            self._time_factor = factor
            before, self._workers = self._workers, self._make_workers(concurrency)
        before.shutdown(wait=False)
        return {"time_factor": factor, "concurrency": concurrency}

    def stop(self) -> None:
        """Begin nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._workers.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _make_workers(concurrency: int) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(concurrency, thread_name_prefix="lambda-event")

    def _put(self, event: QueuedEvent, *, due: float) -> None:
        with self._changed:
            heapq.heappush(self._waiting, (due, next(self._numbers), event))
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and not self._due():
                    self._changed.wait(self._until_next())
                if self._stopped:
                    return
                _, _, event = heapq.heappop(self._waiting)
                self._workers.submit(self._attempt, event)

    def _due(self) -> bool:
        return bool(self._waiting) and self._waiting[0][0] <= time.monotonic()

    def _until_next(self) -> float | None:
        return max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None

    def _attempt(self, event: QueuedEvent) -> None:
        if self._stopped:
            return
        ended = self._invoke(event)
        now, attempts = time.monotonic(), event.attempts.after(ended)
        wait = wait_seconds(attempts, ended, now=now)
        if wait is not None:
            self._put(replace(event, attempts=attempts), due=now + wait * self._time_factor)
        elif ended is not Ended.WELL:
            self._world.timeline.record(
                "event_discarded",
                function=event.function,
                failed=attempts.failed,
                throttled=attempts.throttled,
            )

    def _invoke(self, event: QueuedEvent) -> Ended:
        try:
            result = self._functions.invoke(self._functions.named(event.function), event.payload)
        except ThrottledError:
            return Ended.THROTTLED
        except (CannotAssumeRoleError, LookupError) as err:
            log.warning("an event for %s: %s", event.function, err)
            return Ended.FAILED
        except Exception:
            # Whatever it was, the next event has to find a worker.
            log.exception("an event for %s", event.function)
            return Ended.FAILED
        return Ended.FAILED if result.error else Ended.WELL


def install(world: World, functions: Functions) -> AsynchronousInvocations:
    """Serve the route that sets them up."""
    events = AsynchronousInvocations(world, functions)
    world.on_stop(events.stop)
    world.route("POST", "asynchronous-invocations", events.change)
    return events
