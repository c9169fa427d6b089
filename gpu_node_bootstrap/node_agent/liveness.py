"""Tells an engine that hangs, alive but answering nothing, from one that is idle or has much to do."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from enum import Enum

from .errors import EngineAnswerError
from .log import Log
from .vllm_api import EngineApi, Vitals

LEAST_ANSWER_SECONDS = 5.0
"""Even at the end of its time an engine is given this long for each answer, or a quarter of that time."""


class Verdict(Enum):
    """What is to be thought of an engine."""

    ALIVE = "alive"
    ASK = "ask"
    """It has done nothing since the last look, perhaps for want of work: ask it for a completion."""
    WAIT = "wait"
    """It did not answer; the next look decides."""
    HUNG = "hung"


@dataclass(frozen=True)
class Signs:
    """What a look at an engine found. Durations are seconds."""

    silent_seconds: float
    """Since the last sign of life."""
    hang_seconds: float
    moved: bool
    """Its own counters changed since the look before."""
    answered: bool | None
    """Whether it answered a completion; None: it has not been asked."""


def judge(signs: Signs) -> Verdict:
    """Decide whether the engine lives. One that makes progress does, however slowly it answers."""
    if signs.moved or signs.answered:
        return Verdict.ALIVE
    if signs.answered is None:
        return Verdict.ASK
    return Verdict.HUNG if signs.silent_seconds >= signs.hang_seconds else Verdict.WAIT


class Liveness:
    """Watches one engine from its readiness on, until told to stop.

    A look at an engine that works is one reading of /metrics. Only one that shows nothing new there is asked
    for a completion: an overloaded engine gets no more to do.
    """

    def __init__(self, api: EngineApi, *, probe_seconds: float, hang_seconds: float, log: Log) -> None:
        """A `hang_seconds` of 0 watches nothing."""
        self._api = api
        self._probe_seconds = probe_seconds
        self._hang_seconds = hang_seconds
        self._least_seconds = min(LEAST_ANSWER_SECONDS, hang_seconds / 4)
        self._log = log
        self._last: Vitals | None = None
        self._sign_at = time.monotonic()
        self._stopped = threading.Event()
        self._probe_allowed = threading.Lock()
        self.hung = threading.Event()
        """Set once the engine is found to hang; there is no way back."""

    def start(self) -> None:
        """Watch from now on."""
        if self._hang_seconds > 0:
            threading.Thread(target=self._watch, name="liveness", daemon=True).start()

    def stop(self, *, grace_seconds: float = 0.0) -> None:
        """Look no more, and give a probe that is on its way so long to end: it counts as a request."""
        self._stopped.set()
        if grace_seconds > 0 and self._probe_allowed.acquire(timeout=grace_seconds):
            self._probe_allowed.release()

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self._sign_at

    def _watch(self) -> None:
        # What it has done up to now is no sign of life, but what the first look compares with.
        with contextlib.suppress(Exception):
            self._read(self._hang_seconds)
        while not self._stopped.wait(self._probe_seconds):
            try:
                verdict = self._look()
            except Exception as err:
                # A mistake of the agent's own, on an answer that nobody foresaw, must not end the watch.
                self._log.error("engine_look_failed", error=repr(err))
                verdict = self._judge(moved=False, answered=False)
            if verdict is Verdict.ALIVE:
                self._sign_at = time.monotonic()
            elif verdict is Verdict.HUNG:
                self.hung.set()
                return
            else:
                self._log.warning("engine_silent", seconds=round(self.silent_seconds, 1))

    def _look(self) -> Verdict:
        before = self._last
        # Half of the time for the counters leaves half of it for a completion.
        now = self._read((self._hang_seconds - self.silent_seconds) / 2)
        moved = before is not None and now is not None and now != before
        verdict = self._judge(moved=moved, answered=None)
        if verdict is not Verdict.ASK:
            return verdict
        answered = self._completes(self._hang_seconds - self.silent_seconds)
        # Read again in any case: the next look is not to take this probe's own token for work.
        after, known = self._read(self._least_seconds), now or before
        # What kept it from answering may have been work, such as a prefill that began before the probe.
        return self._judge(moved=None not in (after, known) and after != known, answered=answered)

    def _judge(self, *, moved: bool, answered: bool | None) -> Verdict:
        return judge(Signs(self.silent_seconds, self._hang_seconds, moved, answered))

    def _read(self, timeout_seconds: float) -> Vitals | None:
        try:
            vitals = self._api.vitals(timeout_seconds=max(self._least_seconds, timeout_seconds))
        except EngineAnswerError:
            return None
        self._last = vitals
        return vitals

    def _completes(self, timeout_seconds: float) -> bool:
        with self._probe_allowed:
            if self._stopped.is_set():
                return True
            return self._api.completes(timeout_seconds=max(self._least_seconds, timeout_seconds))
