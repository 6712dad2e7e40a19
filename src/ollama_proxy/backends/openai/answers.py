"""OpenAI answers as events."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Finished, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.domain.call import Operation
from ollama_proxy.net.endings import error_text
from ollama_proxy.net.framing import EventBuffer
from ollama_proxy.net.unreadable import UNREADABLE
from ollama_proxy.net.upstream import DecodeError, UpstreamError


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolPart(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolPart] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Timings(msgspec.Struct):
    prompt_ms: float | None = None
    predicted_ms: float | None = None


_NO_ERROR = msgspec.Raw(b"null")


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: msgspec.Raw = _NO_ERROR


class _Vector(msgspec.Struct):
    embedding: tuple[float, ...]
    index: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


_chunks = msgspec.json.Decoder(_Chunk)
_vectors = msgspec.json.Decoder(_Vectors)


class _Reading:
    """What both forms of an answer share: choices in, events out, the end gathered."""

    def __init__(self) -> None:
        self._reason = ""
        self._usage = Usage()
        self._tools: dict[int, tuple[str, str, list[str]]] = {}

    def _read(self, data: bytes, events: list[AnswerEvent]) -> None:
        try:
            chunk = _chunks.decode(data)
        except UNREADABLE as error:
            raise DecodeError(str(error)) from None
        if chunk.error is not _NO_ERROR and bytes(chunk.error) != b"null":
            raise UpstreamError(error_text(data) or "error in the answer")
        if chunk.usage is not None or chunk.timings is not None:
            self._take_usage(chunk)
        for choice in chunk.choices or ():
            self._take_choice(choice, events)

    def _take_choice(self, choice: _Choice, events: list[AnswerEvent]) -> None:
        part = choice.delta or choice.message
        if part is not None:
            thinking = part.reasoning or part.reasoning_content
            if thinking:
                events.append(ThinkingDelta(thinking))
            text = part.content
            if text:
                events.append(TextDelta(text))
            if part.tool_calls:
                for order, tool in enumerate(part.tool_calls):
                    self._take_tool(tool, tool.index if choice.delta else order)
        elif choice.text:
            events.append(TextDelta(choice.text))
        if choice.finish_reason:
            self._reason = choice.finish_reason

    def _take_tool(self, part: _ToolPart, index: int) -> None:
        ident, name, pieces = self._tools.get(index, ("", "", []))
        function = part.function or _Function()
        pieces.append(function.arguments or "")
        self._tools[index] = (part.id or ident, function.name or name, pieces)

    def _take_usage(self, chunk: _Chunk) -> None:
        usage, timings = chunk.usage, chunk.timings
        self._usage = Usage(
            prompt_tokens=usage.prompt_tokens if usage else self._usage.prompt_tokens,
            output_tokens=usage.completion_tokens if usage else self._usage.output_tokens,
            prompt_ns=_nanoseconds(timings.prompt_ms) if timings else self._usage.prompt_ns,
            decode_ns=_nanoseconds(timings.predicted_ms) if timings else self._usage.decode_ns,
        )

    def _finish(self, events: list[AnswerEvent]) -> Finished:
        for index in sorted(self._tools):
            ident, name, pieces = self._tools[index]
            events.append(ToolCall(index, ident, name, "".join(pieces) or "{}"))
        return Finished(self._reason or "stop", self._usage)


_PREFIX_BYTES = len(b"data: ")


class _StreamDecoder(_Reading):
    """A stream of `data:` events up to `[DONE]`."""

    def __init__(self) -> None:
        super().__init__()
        self._events = EventBuffer()
        self._done = False

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        events: list[AnswerEvent] = []
        # Nearly always: one whole event of one line.
        one = data.startswith(b"data: {") and data.endswith(b"\n\n") and data.find(b"\n") == len(data) - 2
        if one and data.find(b"\r") < 0 and not self._events.held:
            self._read(data[_PREFIX_BYTES:], events)
            return events
        for payload in self._events.feed(data):
            if payload == b"[DONE]":
                self._done = True
            else:
                self._read(payload, events)
        return events

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        events: list[AnswerEvent] = list(self.feed(b"\n\n"))
        return events, self._finish(events) if self._done else None


class _BodyDecoder(_Reading):
    """One object."""

    def __init__(self) -> None:
        super().__init__()
        self._body = bytearray()

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        self._body += data
        return ()

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        events: list[AnswerEvent] = []
        self._read(bytes(self._body), events)
        return events, self._finish(events)


class _VectorDecoder:
    """The one object of `/embeddings`."""

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        self._body += data
        return ()

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        try:
            answer = _vectors.decode(bytes(self._body))
        except UNREADABLE as error:
            raise DecodeError(str(error)) from None
        ordered = sorted(answer.data, key=lambda vector: vector.index)
        usage = Usage(prompt_tokens=answer.usage.prompt_tokens if answer.usage else None, output_tokens=0)
        return (Embeddings(tuple(vector.embedding for vector in ordered)),), Finished("stop", usage)


def choose_decoder(operation: Operation, *, stream: bool) -> _StreamDecoder | _BodyDecoder | _VectorDecoder:
    """The decoder of an answer."""
    if operation is Operation.EMBED:
        return _VectorDecoder()
    return _StreamDecoder() if stream else _BodyDecoder()


def _nanoseconds(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds * 1e6)
