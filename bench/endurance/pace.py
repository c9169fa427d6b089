"""What clients ask for at a steady rate: mostly short answers, now and then a long one."""

from __future__ import annotations

import time
from collections.abc import Callable

from local_aws.demo.answers import RequestKind
from local_aws.demo.workload import MAX_TOKENS, MIN_TOKENS, PROMPTS, Ask

# Generation times of an otherwise idle engine: a notice must find requests that are still running when the
# drain begins, and a short answer is what most of fifty thousand have to be on two cores.
ANSWER_SECONDS = (
    *(0.1, 0.2, 0.3, 0.1, 0.2, 0.1, 1.0, 0.1, 0.3, 0.2),
    *(0.1, 0.2, 0.1, 2.5, 0.2, 0.1, 0.3, 0.1, 0.2, 0.1),
)
# A client that was kept waiting makes up for it, or the rate would sink; but not for more than this.
MOST_ARREARS_SECONDS = 5.0
_KINDS = tuple(RequestKind)


class Pace:
    """Called by each client, in a thread of its own, for its next request. Keeps when that is due."""

    def __init__(
        self, *, clients: int, requests_per_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clients = clients
        self._period = clients / requests_per_second
        self._clock = clock
        self._due: dict[int, float] = {}

    def __call__(self, *, client: int, number: int, tokens_per_second: float) -> Ask:
        """Return the client's next request; its rest ends when the request is due."""
        now = self._clock()
        before = self._due.get(client)
        # The clients begin one after another, spread over a period.
        due = now + self._period * client / self._clients if before is None else before + self._period
        self._due[client] = max(due, now - MOST_ARREARS_SECONDS)
        turn = client * 7 + number
        seconds = ANSWER_SECONDS[turn % len(ANSWER_SECONDS)]
        return Ask(
            # Every length comes in every kind: both series have a common divisor, which the last term breaks.
            kind=_KINDS[(turn + turn // len(ANSWER_SECONDS)) % len(_KINDS)],
            prompt=PROMPTS[turn % len(PROMPTS)],
            max_tokens=max(MIN_TOKENS, min(MAX_TOKENS, round(seconds * tokens_per_second))),
            rest_seconds=max(0.0, self._due[client] - now),
        )
