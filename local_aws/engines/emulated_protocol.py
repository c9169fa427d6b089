"""What the emulated engine takes and gives: vLLM's requests and answers, and tokens that are characters."""

from __future__ import annotations

import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# The vocabulary of the tiny model: special tokens, line break, tab, printable ASCII.
FIRST_CHARACTER_ID = 2
CHARACTERS = "\n\t" + "".join(map(chr, range(32, 127)))
PRINTABLE_FROM = FIRST_CHARACTER_ID + 2
PRINTABLE_COUNT = 95
UNSUPPORTED = ("stop", "logprobs", "echo", "tools", "response_format", "best_of", "suffix")


class BadRequestError(Exception):
    """The request is wrong, or asks for what this engine does not emulate."""


@dataclass(frozen=True)
class Job:
    """A request as the engine sees it."""

    prompt_ids: list[int]
    max_tokens: int
    stream: bool
    chat: bool
    include_usage: bool
    token_ids: bool


def continuation(prompt_ids: Iterable[int]) -> Iterator[int]:
    """Yield tokens that each depend on all before them: going on from a prefix gives the same text."""
    state = zlib.crc32(b"".join(number.to_bytes(2, "big") for number in prompt_ids))
    while True:
        token = PRINTABLE_FROM + (state >> 7) % PRINTABLE_COUNT
        yield token
        state = zlib.crc32(token.to_bytes(2, "big"), state)


def encode(text: str) -> list[int]:
    """Return a token for each character; 0 for one outside the vocabulary."""
    return [
        FIRST_CHARACTER_ID + CHARACTERS.index(character) if character in CHARACTERS else 0
        for character in text
    ]


def decode(ids: Iterable[int]) -> str:
    """Return the characters of tokens; special ones have none."""
    return "".join(CHARACTERS[number - FIRST_CHARACTER_ID] for number in ids if number >= FIRST_CHARACTER_ID)


def parse_job(body: Any, *, model: str, max_model_len: int, chat: bool) -> Job:
    """Read a request. Raises BadRequestError, and LookupError for another model's name."""
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    if body.get("model", model) != model:
        raise LookupError(f"The model `{body['model']}` does not exist. Valid aliases: {model}.")
    asked = [name for name in UNSUPPORTED if body.get(name)]
    if asked or body.get("n", 1) != 1:
        raise BadRequestError(f"not emulated: {', '.join(asked) or 'n above 1'}")
    prompt_ids = _chat_prompt(body) if chat else _prompt(body.get("prompt"))
    room = max_model_len - len(prompt_ids)
    wanted = body.get("max_completion_tokens") if chat else None
    wanted = wanted if wanted is not None else body.get("max_tokens")
    max_tokens = (room if chat else min(16, room)) if wanted is None else wanted
    if not isinstance(max_tokens, int) or not 1 <= max_tokens <= room:
        raise BadRequestError(f"max_tokens must be at least 1 and at most {room}, got {max_tokens}.")
    return Job(
        prompt_ids=prompt_ids,
        max_tokens=max_tokens,
        stream=bool(body.get("stream")),
        chat=chat,
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        token_ids=bool(body.get("return_token_ids")),
    )


def _prompt(prompt: Any) -> list[int]:
    if isinstance(prompt, str) and prompt:
        return encode(prompt)
    if isinstance(prompt, list) and prompt and all(isinstance(number, int) for number in prompt):
        return list(prompt)
    raise BadRequestError("prompt must be one non-empty string or one list of token ids")


def _chat_prompt(body: dict[str, Any]) -> list[int]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("messages must be a non-empty list")
    try:
        lines = [f"{message['role']}: {message['content']}" for message in messages]
    except (KeyError, TypeError) as err:
        raise BadRequestError("a message has a role and a content") from err
    text = "\n".join(lines)
    if body.get("continue_final_message"):
        return encode(text)
    return encode(text + "\n" + ("assistant: " if body.get("add_generation_prompt", True) else ""))


class Answer:
    """The JSON of one answer, whole or in parts."""

    def __init__(self, job: Job, model: str) -> None:
        self.job = job
        self.tokens: list[int] = []
        kind = "chatcmpl" if job.chat else "cmpl"
        self._head = {"id": f"{kind}-{uuid.uuid4().hex[:16]}", "created": int(time.time()), "model": model}

    def whole(self) -> dict[str, Any]:
        """Return the answer to a request without streaming."""
        text = decode(self.tokens)
        body = {"message": {"role": "assistant", "content": text}} if self.job.chat else {"text": text}
        choice = {"index": 0, **body, "logprobs": None, "finish_reason": "length", **self._ids(self.tokens)}
        kind = "chat.completion" if self.job.chat else "text_completion"
        return {**self._head, "object": kind, "choices": [choice], "usage": self._usage()}

    def opening(self) -> dict[str, Any]:
        """Return a chat stream's first part."""
        return self._part({"delta": {"role": "assistant", "content": ""}}, None)

    def part(self, tokens: list[int]) -> dict[str, Any]:
        """Return a stream's next part."""
        first = not self.tokens
        self.tokens += tokens
        ended = len(self.tokens) >= self.job.max_tokens
        text = decode(tokens)
        body: dict[str, Any] = {"delta": {"content": text}} if self.job.chat else {"text": text}
        body.update(self._ids(tokens))
        if first and self.job.token_ids and not self.job.chat:
            body["prompt_token_ids"] = self.job.prompt_ids
        return self._part(body, "length" if ended else None)

    def closing(self) -> dict[str, Any]:
        """Return the part that holds the usage."""
        return {**self._part({}, None), "choices": [], "usage": self._usage()}

    def _part(self, body: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, **body, "logprobs": None, "finish_reason": finish_reason}
        kind = "chat.completion.chunk" if self.job.chat else "text_completion"
        return {**self._head, "object": kind, "choices": [choice]}

    def _ids(self, tokens: list[int]) -> dict[str, Any]:
        return {"token_ids": tokens if self.job.token_ids else None}

    def _usage(self) -> dict[str, int]:
        prompt, made = len(self.job.prompt_ids), len(self.tokens)
        return {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made}
