"""What a client asked, what it got, and whether that is the whole answer.

Pure. The stock SDK takes three kinds of broken answer for good ones: a stream that ends cleanly without
`[DONE]`, an aborted one (HTTP 200, `finish_reason: "abort"`), and a short one. So each answer is judged here
against the number of tokens that was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

COMPLETE_REASONS = frozenset({"stop", "length"})


class RequestKind(StrEnum):
    """The four ways in which the clients ask, in turn."""

    CHAT_STREAM = "chat_stream"
    COMPLETION = "completion"
    COMPLETION_STREAM = "completion_stream"
    CHAT = "chat"

    @property
    def streams(self) -> bool:
        """Whether the answer comes as a stream."""
        match self:
            case RequestKind.CHAT_STREAM | RequestKind.COMPLETION_STREAM:
                return True
            case RequestKind.CHAT | RequestKind.COMPLETION:
                return False
            case _:
                assert_never(self)


class RequestOutcome(StrEnum):
    """How a request ended for its client. All but COMPLETE are lost requests."""

    COMPLETE = "complete"
    ABORTED = "aborted"
    CUT_SHORT = "cut_short"
    EMPTY = "empty"
    WRONG_LENGTH = "wrong_length"
    ERROR = "error"
    TOO_SLOW = "too_slow"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Answer:
    """What arrived. `ended_with_done` is None for an answer that was not streamed."""

    text_length: int
    finish_reason: str | None
    completion_tokens: int | None
    ended_with_done: bool | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A request's outcome, and in words why it is not complete (empty where it is)."""

    outcome: RequestOutcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP request that the SDK sent: the response's status, or the error that came instead."""

    at: float
    status: int | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the SDK had reason to try again (or to give up) after this attempt."""
        return self.status is None or self.status >= 400

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status is not None else (self.error or "no response")


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request from a client's point of view; times in epoch seconds."""

    client: int
    number: int
    kind: RequestKind
    max_tokens: int
    started_at: float
    ended_at: float
    judgement: Judgement
    attempts: tuple[Attempt, ...]
    first_token_at: float | None = None

    @property
    def complete(self) -> bool:
        """Whether the client got the whole answer."""
        return self.judgement.outcome is RequestOutcome.COMPLETE

    @property
    def retried(self) -> bool:
        """Whether the SDK sent the request more than once."""
        return len(self.attempts) > 1

    @property
    def seconds(self) -> float:
        """From the first attempt to the answer's end."""
        return self.ended_at - self.started_at


def judge(answer: Answer, *, expected_tokens: int, seconds: float, patience_seconds: float) -> Judgement:
    """Say whether `answer` is whole: ended as it should, not empty, of the length asked for, and in time."""
    if answer.finish_reason == "abort":
        return Judgement(RequestOutcome.ABORTED, "the engine aborted it: HTTP 200 with finish_reason 'abort'")
    if answer.ended_with_done is False:
        return Judgement(RequestOutcome.CUT_SHORT, "the stream ended without [DONE]")
    if answer.finish_reason not in COMPLETE_REASONS:
        return Judgement(RequestOutcome.CUT_SHORT, f"finish_reason is {answer.finish_reason!r}")
    if answer.text_length == 0:
        return Judgement(RequestOutcome.EMPTY, "the answer is empty")
    if answer.completion_tokens != expected_tokens:
        got = "an unknown number of" if answer.completion_tokens is None else answer.completion_tokens
        return Judgement(RequestOutcome.WRONG_LENGTH, f"{got} tokens instead of {expected_tokens}")
    if seconds > patience_seconds:
        return Judgement(
            RequestOutcome.TOO_SLOW, f"it took {seconds:.0f} s; a client waits {patience_seconds:.0f} s"
        )
    return Judgement(RequestOutcome.COMPLETE)


def attempts_that_failed(records: Sequence[RequestRecord]) -> dict[str, int]:
    """Count the attempts behind retries and failures by what came back, most frequent first."""
    counts: dict[str, int] = {}
    for record in records:
        for attempt in record.attempts:
            if attempt.failed:
                counts[str(attempt)] = counts.get(str(attempt), 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
