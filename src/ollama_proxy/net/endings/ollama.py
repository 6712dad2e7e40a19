"""How Ollama's answers end: an object that says it is done."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.answer import Finished, Usage
from ollama_proxy.net.bodies.unreadable import UNREADABLE

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


_ollama = msgspec.json.Decoder(_OllamaEnd)


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
