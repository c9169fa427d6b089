"""The four calls that the clients make with the SDK, exactly as its documentation shows them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import assert_never

import openai

from local_aws.demo.answers import Answer, RequestKind
from local_aws.demo.workload import Ask

# With ignore_eos the engine gives exactly max_tokens, so a short answer cannot pass for a whole one.
_EXACT_LENGTH = {"ignore_eos": True}
_WITH_USAGE: openai.types.chat.ChatCompletionStreamOptionsParam = {"include_usage": True}


@dataclass
class FirstToken:
    """When a streamed answer's first token came (epoch seconds)."""

    at: float | None = None

    def seen(self) -> None:
        """Note the time, once."""
        if self.at is None:
            self.at = time.time()


def send(sdk: openai.OpenAI, todo: Ask, *, model: str, first_token: FirstToken) -> Answer:
    """Make the request and read its whole answer."""
    match todo.kind:
        case RequestKind.CHAT:
            return chat(sdk, model=model, prompt=todo.prompt, max_tokens=todo.max_tokens)
        case RequestKind.CHAT_STREAM:
            return stream_chat(sdk, todo, model=model, first_token=first_token)
        case RequestKind.COMPLETION:
            return complete(sdk, model=model, prompt=todo.prompt, max_tokens=todo.max_tokens)
        case RequestKind.COMPLETION_STREAM:
            return stream_completion(sdk, todo, model=model, first_token=first_token)
        case _:
            assert_never(todo.kind)


def complete(sdk: openai.OpenAI, *, model: str, prompt: str, max_tokens: int) -> Answer:
    """Ask for a completion in one piece."""
    got = sdk.completions.create(
        model=model, prompt=prompt, max_tokens=max_tokens, temperature=0, extra_body=_EXACT_LENGTH
    )
    return Answer(
        text_length=len(got.choices[0].text),
        finish_reason=got.choices[0].finish_reason,
        completion_tokens=got.usage.completion_tokens if got.usage else None,
        ended_with_done=None,
    )


def chat(sdk: openai.OpenAI, *, model: str, prompt: str, max_tokens: int) -> Answer:
    """Ask for a chat completion in one piece."""
    got = sdk.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=max_tokens,
        temperature=0,
        extra_body=_EXACT_LENGTH,
    )
    return Answer(
        text_length=len(got.choices[0].message.content or ""),
        finish_reason=got.choices[0].finish_reason,
        completion_tokens=got.usage.completion_tokens if got.usage else None,
        ended_with_done=None,
    )


def stream_completion(sdk: openai.OpenAI, todo: Ask, *, model: str, first_token: FirstToken) -> Answer:
    """Ask for a completion and read it as a stream."""
    length, finish_reason, tokens = 0, None, None
    stream = sdk.completions.create(
        model=model,
        prompt=todo.prompt,
        max_tokens=todo.max_tokens,
        temperature=0,
        stream=True,
        stream_options=_WITH_USAGE,
        extra_body=_EXACT_LENGTH,
    )
    for chunk in stream:
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        for choice in chunk.choices:
            first_token.seen()
            length += len(choice.text)
            finish_reason = choice.finish_reason or finish_reason
    return Answer(length, finish_reason, tokens, ended_with_done=None)


def stream_chat(sdk: openai.OpenAI, todo: Ask, *, model: str, first_token: FirstToken) -> Answer:
    """Ask for a chat completion and read it as a stream."""
    length, finish_reason, tokens = 0, None, None
    stream = sdk.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": todo.prompt}],
        max_tokens=todo.max_tokens,
        temperature=0,
        stream=True,
        stream_options=_WITH_USAGE,
        extra_body=_EXACT_LENGTH,
    )
    for chunk in stream:
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        for choice in chunk.choices:
            if choice.delta.content:
                first_token.seen()
                length += len(choice.delta.content)
            finish_reason = choice.finish_reason or finish_reason
    return Answer(length, finish_reason, tokens, ended_with_done=None)


def with_end(answer: Answer, *, ended_with_done: bool) -> Answer:
    """Add to a streamed answer how its body ended, which the SDK does not tell."""
    return replace(answer, ended_with_done=ended_with_done)
