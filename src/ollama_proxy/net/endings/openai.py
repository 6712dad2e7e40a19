"""How answers of OpenAI's API end: `[DONE]`, after finish reason and usage in the last chunks."""

from __future__ import annotations

import re

import msgspec

from ollama_proxy.domain.answer import Finished, Usage
from ollama_proxy.net.bodies.unreadable import UNREADABLE

_NO_ERROR = msgspec.Raw(b"null")


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


_openai = msgspec.json.Decoder(_OpenAiEnd)
#: What of a stream's last events is worth reading has one of these in it.
_TELLING = (b"finish_reason", b"usage", b'"error"')
#: At the start of a line only: a model may say the same words, inside of JSON.
_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")


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
