"""Messages of Anthropic's API as events."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ollama_proxy.backends.anthropic.answer_tool import AnswerTool
from ollama_proxy.domain.answer import AnswerEvent, Finished, TextDelta, ThinkingDelta, ToolCall
from ollama_proxy.net.bodies.tool_arguments import read_arguments
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.endings.anthropic import anthropic_finish
from ollama_proxy.net.endings.errors import error_text
from ollama_proxy.net.lanes.framing import EventBuffer
from ollama_proxy.net.lanes.upstream import DecodeError, UpstreamError


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Message(msgspec.Struct):
    type: str = ""
    error: msgspec.Raw = msgspec.Raw(b"null")
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: _Usage | None = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


_events = msgspec.json.Decoder(_Event)
_messages = msgspec.json.Decoder(_Message)
_NO_INPUT = (b"", b"{}", b"null")
#: How most events begin.
_DELTA = b"event: content_block_delta\ndata: {"


class _Reading:
    """What both forms of an answer share: blocks in, events out, the end gathered."""

    def __init__(self, answer_tool: AnswerTool | None) -> None:
        self._answer_tool = answer_tool
        self._answered = False
        #: Text beside an answer that comes through a tool: no part of it, unless no such answer comes.
        self._aside: list[str] = []
        self._calls = 0
        #: The tool call that is being told, and the pieces of its input.
        self._block: _Block | None = None
        self._pieces: list[str] = []
        self._usage = _Usage()
        self._reason: str | None = None
        self._sequence: str | None = None

    @property
    def calling(self) -> bool:
        return self._calls > 0 or self._block is not None or self._answer_tool is not None

    def _begin_block(self, block: _Block, events: list[AnswerEvent]) -> None:
        self._end_block(events)
        if block.type == "tool_use":
            self._block, self._pieces = block, []
        elif block.text:
            self._take_text(block.text, events)
        elif block.thinking or block.signature:
            events.append(ThinkingDelta(block.thinking or "", block.signature or ""))

    def _take_text(self, text: str, events: list[AnswerEvent]) -> None:
        if self._answer_tool is not None:
            self._aside.append(text)
        else:
            events.append(TextDelta(text))

    def _take_delta(self, delta: _Delta, events: list[AnswerEvent]) -> None:
        if delta.text:
            self._take_text(delta.text, events)
        elif delta.thinking or delta.signature:
            events.append(ThinkingDelta(delta.thinking or "", delta.signature or ""))
        elif delta.partial_json and self._block is not None:
            self._pieces.append(delta.partial_json)
            if self._is_answer(self._block) and not self._is_wrapped():
                events.append(TextDelta(delta.partial_json))

    def _is_answer(self, block: _Block) -> bool:
        return self._answer_tool is not None and block.name == self._answer_tool.name and not self._answered

    def _is_wrapped(self) -> bool:
        return self._answer_tool is not None and self._answer_tool.wrapped

    def _end_block(self, events: list[AnswerEvent]) -> None:
        block, self._block = self._block, None
        if block is None:
            return
        arguments = "".join(self._pieces)
        whole = not arguments and bytes(block.input) not in _NO_INPUT
        if whole:
            arguments = bytes(block.input).decode("utf-8", "replace")
        tool = self._answer_tool
        if tool is not None and block.name == tool.name:
            if not self._answered and (whole or tool.wrapped or not arguments):
                events.append(TextDelta(tool.read(arguments or "{}")))
            self._answered = True
        elif (read := read_arguments(arguments or "{}")) is not None:
            events.append(ToolCall(self._calls, block.id or "", block.name or "", read))
            self._calls += 1

    def _take_usage(self, usage: _Usage | None) -> None:
        """What is said again later counts; what is not, stays."""
        for name in _Usage.__struct_fields__ if usage is not None else ():
            value = getattr(usage, name)
            if value is not None:
                setattr(self._usage, name, value)

    def _finish(self, events: list[AnswerEvent]) -> Finished:
        if self._reason is None:
            raise UpstreamError("the answer ended without a reason")
        self._end_block(events)
        if self._aside and not self._answered:
            events.append(TextDelta("".join(self._aside)))
        finished = anthropic_finish(self._reason, self._sequence, self._usage)
        if finished.reason == "tool_calls" and not self._calls:
            return msgspec.structs.replace(finished, reason="stop")
        return finished


class StreamDecoder(_Reading):
    """A stream of events up to `message_stop`."""

    def __init__(self, answer_tool: AnswerTool | None = None) -> None:
        super().__init__(answer_tool)
        self._buffer = EventBuffer()
        self._done = False

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        events: list[AnswerEvent] = []
        # Nearly always: one whole event of two lines.
        border = data.find(b"\n\n")
        one = data.startswith(_DELTA) and border == len(data) - 2 and data.find(b"\n", len(_DELTA)) == border
        if one and data.find(b"\r") < 0 and not self._buffer.held and not self._done:
            self._read(data[len(_DELTA) - 1 :], events)
            return events
        for payload in self._buffer.feed(data):
            if not self._done:
                self._read(payload, events)
        return events

    def _read(self, payload: bytes, events: list[AnswerEvent]) -> None:
        try:
            event = _events.decode(payload)
        except UNREADABLE as error:
            raise DecodeError(str(error)) from None
        match event.type:
            case "content_block_delta" if event.delta is not None:
                self._take_delta(event.delta, events)
            case "content_block_start" if event.content_block is not None:
                self._begin_block(event.content_block, events)
            case "content_block_stop":
                self._end_block(events)
            case "message_start" if event.message is not None:
                self._take_usage(event.message.usage)
            case "message_delta":
                self._take_usage(event.usage)
                if event.delta is not None and event.delta.stop_reason is not None:
                    self._reason, self._sequence = event.delta.stop_reason, event.delta.stop_sequence
            case "message_stop":
                self._done = True
            case "error":
                raise UpstreamError(error_text(payload) or "error in the answer")

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        events: list[AnswerEvent] = list(self.feed(b"\n\n"))
        return events, self._finish(events) if self._done else None

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        events: list[AnswerEvent] = []
        return events, self._finish(events) if self._reason is not None else None


class BodyDecoder(_Reading):
    """One message."""

    def __init__(self, answer_tool: AnswerTool | None = None) -> None:
        super().__init__(answer_tool)
        self._body = bytearray()

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        self._body += data
        return ()

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        body = bytes(self._body)
        try:
            message = _messages.decode(body)
        except UNREADABLE as error:
            raise DecodeError(str(error)) from None
        if message.type == "error" or bytes(message.error) != b"null":
            raise UpstreamError(error_text(body) or "error in the answer")
        events: list[AnswerEvent] = []
        for block in message.content or ():
            self._begin_block(block, events)
        self._take_usage(message.usage)
        self._reason, self._sequence = message.stop_reason, message.stop_sequence
        return events, self._finish(events)

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        return (), None
