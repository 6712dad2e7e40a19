"""OpenAI answers as events."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ollama_proxy.backends.openai.logprobs import Logprobs, read_logprobs
from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Finished, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.domain.call import Operation
from ollama_proxy.net.bodies.tool_arguments import read_arguments
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.endings.errors import error_text
from ollama_proxy.net.lanes.framing import EventBuffer
from ollama_proxy.net.lanes.upstream import DecodeError, UpstreamError


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolPart(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolPart] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | msgspec.UnsetType | None = msgspec.UNSET
    #: vLLM: the stop string or token that ended the text.
    stop_reason: str | int | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Timings(msgspec.Struct):
    prompt_ms: float | None = None
    predicted_ms: float | None = None
    cache_n: int | None = None


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
#: What some servers call an end; whatever is not here is `stop`.
_REASONS = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
#: Ends that are none: the server gave up.
_FAILURES = frozenset(("abort", "error"))


class _Reading:
    """What both forms of an answer share: choices in, events out, the end gathered."""

    def __init__(self) -> None:
        self._reason = ""
        self._stop_sequence = ""
        self._usage = Usage()
        self._tools: dict[int, tuple[str, str, list[str]]] = {}
        #: Whether there was any choice, and whether the last one said that it is not at its end.
        self._answered = False
        self._unended = False
        #: Pieces of text and reasoning: servers send one a token, and not all of them count.
        self._pieces = 0

    @property
    def calling(self) -> bool:
        return bool(self._tools)

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
            if not choice.index:
                self._take_choice(choice, events)

    def _take_choice(self, choice: _Choice, events: list[AnswerEvent]) -> None:
        self._answered = True
        part = choice.delta or choice.message
        if part is not None:
            thinking = part.reasoning or part.reasoning_content
            if thinking:
                self._pieces += 1
                events.append(ThinkingDelta(thinking))
            self._take_text(part.content or part.refusal or "", choice, events)
            if part.tool_calls:
                for order, tool in enumerate(part.tool_calls):
                    self._take_tool(tool, order if tool.index is None or choice.delta is None else tool.index)
        else:
            self._take_text(choice.text or "", choice, events)
        reason = choice.finish_reason
        self._unended = reason is None
        if reason:
            if reason in _FAILURES:
                raise UpstreamError(f"the server ended the answer: {reason}")
            self._reason = _REASONS.get(reason, "stop")
            if isinstance(choice.stop_reason, str):
                self._stop_sequence = choice.stop_reason

    def _take_text(self, text: str, choice: _Choice, events: list[AnswerEvent]) -> None:
        logprobs = choice.logprobs
        if logprobs is not None and (found := read_logprobs(logprobs)):
            self._pieces += len(found)
            events.append(TextDelta(text, found))
        elif text:
            self._pieces += 1
            events.append(TextDelta(text))

    def _take_tool(self, part: _ToolPart, index: int) -> None:
        ident, name, pieces = self._tools.get(index, ("", "", []))
        if part.id and ident and part.id != ident:
            # Another call under a number that is taken: some servers number none of them.
            index = self._find_tool(part.id)
            ident, name, pieces = self._tools.get(index, ("", "", []))
        function = part.function or _Function()
        pieces.append(function.arguments or "")
        self._tools[index] = (part.id or ident, function.name or name, pieces)

    def _find_tool(self, ident: str) -> int:
        known = (index for index, tool in self._tools.items() if tool[0] == ident)
        return next(known, max(self._tools) + 1)

    def _take_usage(self, chunk: _Chunk) -> None:
        usage, timings, before = chunk.usage, chunk.timings, self._usage
        details = usage.prompt_tokens_details if usage else None
        cached = details.cached_tokens if details else timings.cache_n if timings else None
        self._usage = Usage(
            prompt_tokens=usage.prompt_tokens if usage else before.prompt_tokens,
            output_tokens=usage.completion_tokens if usage else before.output_tokens,
            prompt_ns=_nanoseconds(timings.prompt_ms) if timings else before.prompt_ns,
            decode_ns=_nanoseconds(timings.predicted_ms) if timings else before.decode_ns,
            cached_tokens=before.cached_tokens if cached is None else cached,
        )

    def _finish(self, events: list[AnswerEvent]) -> Finished:
        if not self._answered:
            raise DecodeError("there is no answer in it")
        called = 0
        for index in sorted(self._tools):
            ident, name, pieces = self._tools[index]
            arguments = read_arguments("".join(pieces) or "{}")
            if arguments is not None:
                events.append(ToolCall(called, ident, name, arguments))
                called += 1
        reason = self._reason or "stop"
        if reason == "tool_calls" and not called:
            reason = "stop"
        usage = self._usage
        if usage.output_tokens is None and self._pieces:
            usage = msgspec.structs.replace(usage, output_tokens=self._pieces, counted_events=True)
        return Finished(reason, usage, self._stop_sequence)


_PREFIX_BYTES = len(b"data: ")


class StreamDecoder(_Reading):
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

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        events: list[AnswerEvent] = []
        return events, self._finish(events) if self._reason else None


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
        # Some servers leave the reason out; whoever says it is null, or has nothing else either, has not answered.
        if self._unended or not (self._reason or events or self._tools):
            raise UpstreamError("the answer ended without a reason" if self._answered else "there is no answer in it")
        # Whole texts are no tokens.
        self._pieces = 0
        return events, self._finish(events)

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        return (), None


class _VectorDecoder:
    """The one object of `/embeddings`."""

    calling = False

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

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        return (), None


def choose_decoder(operation: Operation, *, stream: bool) -> StreamDecoder | _BodyDecoder | _VectorDecoder:
    """The decoder of an answer."""
    if operation is Operation.EMBED:
        return _VectorDecoder()
    return StreamDecoder() if stream else _BodyDecoder()


def _nanoseconds(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds * 1e6)
