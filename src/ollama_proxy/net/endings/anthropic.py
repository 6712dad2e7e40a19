"""How answers of Anthropic's API end: `message_stop`, after stop reason and usage."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.domain.answer import Finished, Usage
from ollama_proxy.net.bodies.unreadable import UNREADABLE


class _AnthropicUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _AnthropicEnd(msgspec.Struct):
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _AnthropicBody(_AnthropicEnd):
    type: str = ""
    usage: _AnthropicUsage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class _AnthropicEvent(msgspec.Struct):
    type: str = ""
    delta: _AnthropicEnd | None = None
    usage: _AnthropicUsage | None = None


_anthropic = msgspec.json.Decoder(_AnthropicBody)
_anthropic_event = msgspec.json.Decoder(_AnthropicEvent)


_ANTHROPIC_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read_anthropic_body(body: bytes) -> Finished | None:
    """The end that a whole message tells of; counts of tokens have none of it, and an error is no end."""
    try:
        end = _anthropic.decode(body)
    except UNREADABLE:
        return None
    if end.type == "error" or bytes(end.error) != b"null":
        return None
    return anthropic_finish(end.stop_reason, end.stop_sequence, end.usage)


def anthropic_finish(reason: str | None, sequence: str | None, usage: Any) -> Finished:
    """The end in Anthropic's fields; `usage` has them as attributes. Cached tokens of the prompt are counted apart."""
    found = Usage()
    if usage is not None:
        given = (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens)
        prompt = None if usage.input_tokens is None else sum(part or 0 for part in given)
        found = Usage(prompt, usage.output_tokens, cached_tokens=usage.cache_read_input_tokens)
    return Finished(_ANTHROPIC_REASONS.get(reason or "", "stop"), found, sequence or "")


def read_anthropic_tail(tail: bytes) -> Finished | None:
    """The end of an event stream of messages: `message_stop`, and reason and usage from the event before it."""
    stopped = False
    finished = Finished()
    for line in tail.splitlines():
        if not line.startswith(b"data:"):
            continue
        try:
            event = _anthropic_event.decode(line[5:])
        except UNREADABLE:
            continue
        stopped = stopped or event.type == "message_stop"
        if event.type == "message_delta" and event.delta is not None:
            finished = anthropic_finish(event.delta.stop_reason, event.delta.stop_sequence, event.usage)
    return finished if stopped else None
