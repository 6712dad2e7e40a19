"""How answers of each dialect end: the end marker, usage and finish reason, read from the tail of what passed by.

The fast lane never parses a stream; these functions look once, at the end, at its last bytes.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ollama_proxy.domain.answer import Finished, Usage
from ollama_proxy.net.unreadable import UNREADABLE

#: How many of the last pieces of a stream are kept to look at: finish reason, usage and end marker may come apart.
TAIL_PIECES = 5


_NO_ERROR = msgspec.Raw(b"null")


class _OllamaEnd(msgspec.Struct):
    done: bool = False
    done_reason: str = ""
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    error: msgspec.Raw = _NO_ERROR


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


class _OpenAiUsage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Cached | None = None


class _Timings(msgspec.Struct):
    prompt_ms: float | None = None
    predicted_ms: float | None = None
    cache_n: int | None = None


class _OpenAiChoice(msgspec.Struct):
    finish_reason: str | None = None


class _OpenAiEnd(msgspec.Struct):
    choices: list[_OpenAiChoice] | None = None
    usage: _OpenAiUsage | None = None
    timings: _Timings | None = None
    error: msgspec.Raw = _NO_ERROR


class _ResponsesUsage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Cached | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _ResponsesEnd(msgspec.Struct):
    usage: _ResponsesUsage | None = None
    incomplete_details: _Incomplete | None = None


class _ResponsesEvent(msgspec.Struct):
    type: str = ""
    response: _ResponsesEnd | None = None


_ollama = msgspec.json.Decoder(_OllamaEnd)
_responses = msgspec.json.Decoder(_ResponsesEnd)
_responses_event = msgspec.json.Decoder(_ResponsesEvent)
_RESPONSES_ENDS = frozenset(("response.completed", "response.incomplete"))
_openai = msgspec.json.Decoder(_OpenAiEnd)
#: What of a stream's last events is worth reading has one of these in it.
_TELLING = (b"finish_reason", b"usage", b'"error"')
#: At the start of a line only: a model may say the same words, inside of JSON.
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")


def read_ollama_line(line: bytes) -> Finished | None:
    """The end that one NDJSON line tells of; None when it is not the end."""
    try:
        end = _ollama.decode(line)
    except UNREADABLE:
        return None
    if not end.done or bytes(end.error) != b"null":
        return None
    return Finished(end.done_reason or "stop", ollama_usage(end))


def read_ollama_body(body: bytes) -> Finished | None:
    """The end that a unary body tells of; embeddings have no `done`."""
    try:
        end = _ollama.decode(body)
    except UNREADABLE:
        return None
    return Finished(end.done_reason or "stop", ollama_usage(end))


def ollama_usage(end: _OllamaEnd) -> Usage:
    """Usage of a final object in Ollama's fields."""
    return Usage(
        prompt_tokens=end.prompt_eval_count,
        output_tokens=end.eval_count,
        total_ns=end.total_duration,
        load_ns=end.load_duration,
        prompt_ns=end.prompt_eval_duration,
        decode_ns=end.eval_duration,
    )


def read_ollama_tail(tail: bytes) -> Finished | None:
    """The end of an NDJSON stream: its last line."""
    return read_ollama_line(tail.rstrip().rsplit(b"\n", 1)[-1])


def read_openai_body(body: bytes) -> Finished | None:
    """The end that a unary OpenAI answer tells of; embeddings and lists have usage only, and an error is no end."""
    try:
        end = _openai.decode(body)
    except UNREADABLE:
        return None
    if end.error is not _NO_ERROR and bytes(end.error) != b"null":
        return None
    reason = end.choices[0].finish_reason if end.choices else None
    return Finished(reason or "stop", openai_usage(end.usage, end.timings))


def openai_usage(usage: _OpenAiUsage | None, timings: _Timings | None = None) -> Usage:
    """Usage in OpenAI's fields, with llama.cpp's timings where they are given."""
    details = usage.prompt_tokens_details if usage else None
    return Usage(
        prompt_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
        prompt_ns=_nanoseconds(timings.prompt_ms) if timings else None,
        decode_ns=_nanoseconds(timings.predicted_ms) if timings else None,
        cached_tokens=details.cached_tokens if details else timings.cache_n if timings else None,
    )


def _nanoseconds(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds * 1e6)


def read_openai_tail(tail: bytes) -> Finished | None:
    """The end of an OpenAI event stream: `[DONE]`, and finish reason and usage from the last chunks."""
    if not _DONE.search(tail):
        return None
    reason = "stop"
    usage = Usage()
    for line in tail.split(b"\n"):
        if not line.startswith(b"data:") or not any(word in line for word in _TELLING):
            continue
        try:
            end = _openai.decode(line[5:])
        except UNREADABLE:
            continue
        if end.error is not _NO_ERROR and bytes(end.error) != b"null":
            # vLLM puts the marker behind an error, too.
            return None
        if end.choices and end.choices[0].finish_reason:
            reason = end.choices[0].finish_reason
        if end.usage is not None or end.timings is not None:
            usage = openai_usage(end.usage, end.timings)
    return Finished(reason, usage)


def read_responses_body(body: bytes) -> Finished | None:
    """The end that a unary answer of the Responses API tells of."""
    try:
        return _finish_response(_responses.decode(body))
    except UNREADABLE:
        return None


def _finish_response(end: _ResponsesEnd) -> Finished:
    lack = end.incomplete_details.reason if end.incomplete_details is not None else None
    reason = "length" if lack == "max_output_tokens" else "content_filter" if lack == "content_filter" else "stop"
    usage = end.usage
    if usage is None:
        return Finished(reason)
    cached = usage.input_tokens_details.cached_tokens if usage.input_tokens_details is not None else None
    return Finished(reason, Usage(usage.input_tokens, usage.output_tokens, cached_tokens=cached))


def read_responses_tail(tail: bytes) -> Finished | None:
    """The end of an event stream of the Responses API: the event with the whole response, complete or cut by a limit.

    One that failed is no regular end; its error is found by `error_in_event`.
    """
    for line in reversed(tail.splitlines()):
        if not line.startswith(b"data:") or _DONE.match(line):
            continue
        try:
            event = _responses_event.decode(line[5:])
        except UNREADABLE:
            return None
        return _finish_response(event.response or _ResponsesEnd()) if event.type in _RESPONSES_ENDS else None
    return None


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
    return None if end.type == "error" else anthropic_finish(end.stop_reason, end.stop_sequence, end.usage)


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


def error_text(body: bytes) -> str:
    """The sentence in an error body of any dialect, or its beginning as text."""
    try:
        return _error_of(msgspec.json.decode(body))
    except UNREADABLE:
        return body[:200].decode("utf-8", "replace").strip()


def error_in_tail(tail: bytes) -> str:
    """The sentence of the last error among a stream's last events; nothing when there is none."""
    lines = (line for line in reversed(tail.splitlines()) if b'"error"' in line)
    return next((text for line in lines if (text := error_in_event(line))), "")


def error_in_event(line: bytes) -> str:
    """The sentence of an error that is a stream's last line; nothing for anything else, half an event above all."""
    try:
        return _error_of(msgspec.json.decode(line.removeprefix(b"data:")))
    except UNREADABLE:
        return ""


def _error_of(document: Any) -> str:
    error = document.get("error") if isinstance(document, dict) else None
    if error is None and isinstance(document, dict):
        error = _error_of_response(document)
    if isinstance(error, dict):
        error = error.get("message")
    return error.strip()[:500] if isinstance(error, str) else ""


def _error_of_response(event: dict[str, Any]) -> Any:
    """The error in an event of the Responses API: `error` itself, or a response that failed."""
    if event.get("type") == "error":
        return event
    response = event.get("response")
    return response.get("error") if isinstance(response, dict) else None
