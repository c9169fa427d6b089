"""What the clients ask for: how long each answer is and how long a client rests between two. Pure.

A running vLLM engine keeps a core busy even with one request, so the load is steady, not heavy: each answer
takes several seconds on this machine, and a client rests in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice

from local_aws.demo.answers import RequestKind

# Generation times of an otherwise idle engine, in turn: long enough to be in flight when a notice comes.
ANSWER_SECONDS = (4.0, 2.5, 5.0, 3.0, 3.5)
REST_SECONDS = (1.5, 2.5, 1.0, 2.0)
MIN_TOKENS, MAX_TOKENS = 16, 24_000
PROMPTS = (
    "Why do birds sing at dawn?",
    "Write a letter to a lighthouse keeper.",
    "Explain tides to a child.",
    "List ten uses of a brick.",
    "Tell the story of a lost umbrella.",
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to make: after resting `rest_seconds`, ask for exactly `max_tokens`."""

    kind: RequestKind
    prompt: str
    max_tokens: int
    rest_seconds: float


def ask(*, client: int, number: int, tokens_per_second: float) -> Ask:
    """Return the client's `number`-th request. Clients go through the same turns, each from another place."""
    turn = client + number
    seconds = ANSWER_SECONDS[(turn + client) % len(ANSWER_SECONDS)]
    return Ask(
        kind=next(islice(cycle(RequestKind), turn % len(RequestKind), None)),
        prompt=PROMPTS[(turn * 2 + client) % len(PROMPTS)],
        max_tokens=max(MIN_TOKENS, min(MAX_TOKENS, round(seconds * tokens_per_second))),
        # The clients begin one after another, or they would all rest at the same time.
        rest_seconds=REST_SECONDS[turn % len(REST_SECONDS)] if number else 1.1 * (client % 8),
    )
