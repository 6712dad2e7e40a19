"""Native Ollama answers as events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Finished, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.net.bodies.tool_arguments import read_arguments
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.lanes.framing import MAX_EVENT_BYTES, LineBuffer
from ollama_proxy.net.lanes.upstream import DecodeError, UpstreamError


class _Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    index: int = 0


class _Use(msgspec.Struct):
    function: _Function
    id: str = ""


class _ChatMessage(msgspec.Struct):
    content: str = ""
    thinking: str = ""
    tool_calls: list[_Use] | None = None


class _Chunk(msgspec.Struct):
    response: str = ""
    thinking: str = ""
    message: _ChatMessage | None = None
    tool_calls: list[_Use] | None = None
    logprobs: tuple[Any, ...] | None = None
    done: bool = False
    done_reason: str = ""
    error: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class _Embedded(msgspec.Struct):
    embeddings: tuple[tuple[float, ...], ...]
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None


_chunks = msgspec.json.Decoder(_Chunk)
_embedded = msgspec.json.Decoder(_Embedded)


class AnswerDecoder:
    """NDJSON streams and unary objects of generate and chat alike: a unary body is a stream of one line."""

    __slots__ = ("_calls", "_finished", "_lines")

    def __init__(self) -> None:
        self._lines = LineBuffer()
        self._finished: Finished | None = None
        self._calls = 0

    @property
    def calling(self) -> bool:
        return self._calls > 0

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        events: list[AnswerEvent] = []
        lines = self._lines
        if data.startswith(b"{") and not lines.held:
            end = data.find(b"\n")
            if end == len(data) - 1:
                # Nearly always: one line, whole.
                self._read(data, events)
                return events
            if end < 0 and len(data) <= MAX_EVENT_BYTES:
                # Unary bodies have no line end.
                lines.held = data
                return events
        for line in lines.feed(data):
            self._read(line, events)
        return events

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        events: list[AnswerEvent] = []
        rest = self._lines.rest().strip()
        if rest:
            self._read(rest, events)
        return events, self._finished

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        return (), self._finished

    def _read(self, line: bytes, events: list[AnswerEvent]) -> None:
        try:
            chunk = _chunks.decode(line)
        except UNREADABLE as error:
            raise DecodeError(str(error)) from None
        if chunk.error is not None:
            raise UpstreamError(chunk.error)
        message = chunk.message
        if message is None:
            text, thinking, uses = chunk.response, chunk.thinking, chunk.tool_calls
        else:
            text, thinking, uses = message.content, message.thinking, message.tool_calls
        if thinking:
            events.append(ThinkingDelta(thinking))
        if text:
            events.append(TextDelta(text, chunk.logprobs or ()))
        if uses:
            self._take_uses(uses, events)
        if chunk.done:
            reason = "tool_calls" if self._calls else chunk.done_reason or "stop"
            self._finished = Finished(reason, _usage(chunk))

    def _take_uses(self, uses: Sequence[_Use], events: list[AnswerEvent]) -> None:
        for use in uses:
            given = bytes(use.function.arguments)
            arguments = "{}" if given == b"null" else read_arguments(given)
            if arguments is not None:
                events.append(ToolCall(self._calls, use.id, use.function.name, arguments))
                self._calls += 1


def _usage(chunk: _Chunk) -> Usage:
    return Usage(
        chunk.prompt_eval_count,
        chunk.eval_count,
        chunk.total_duration,
        chunk.load_duration,
        chunk.prompt_eval_duration,
        chunk.eval_duration,
    )


class EmbedDecoder:
    """The one object of `/api/embed`."""

    calling = False

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        self._body += data
        return ()

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        try:
            answer = _embedded.decode(bytes(self._body))
        except UNREADABLE as error:
            raise DecodeError(str(error)) from None
        usage = Usage(
            prompt_tokens=answer.prompt_eval_count,
            output_tokens=0,
            total_ns=answer.total_duration,
            load_ns=answer.load_duration,
        )
        return (Embeddings(answer.embeddings),), Finished("stop", usage)

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        return (), None
