"""Answers of Anthropic's API: event streams and whole messages."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from ollama_proxy.api.anthropic.errors import error_document, missing_model, status_of, write_error
from ollama_proxy.domain.answer import (
    AnswerEvent,
    Embeddings,
    Outcome,
    Progress,
    Route,
    TextDelta,
    ThinkingDelta,
    ToolCall,
)
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.lanes.framing import event_data

_JSON = b"application/json"
_encode = msgspec.json.Encoder().encode
_REASONS = {"length": "max_tokens", "content_filter": "refusal"}
_TEXT, _THINKING = "text", "thinking"


class _Named(msgspec.Struct, frozen=True):
    id: str = ""
    model: str = ""


class _Start(msgspec.Struct):
    """The event that a stream begins with."""

    message: _Named = _Named()


class _Opened(msgspec.Struct, frozen=True):
    type: str = ""


class _Place(msgspec.Struct):
    """What an event says of the block that it belongs to."""

    type: str = ""
    index: int | None = None
    content_block: _Opened = _Opened()


_starts = msgspec.json.Decoder(_Start)
_places = msgspec.json.Decoder(_Place)


class AnthropicWriter:
    """One message. Blocks come in the order in which the model makes them: mostly thinking, then text, then calls.

    A block of thinking always has a signature, as clients expect; it is empty where the backend gave none.
    """

    def __init__(self, model: str, request_id: str, *, stream: bool, prompt_tokens: int = 0) -> None:
        """`prompt_tokens` is the estimate that a stream begins with; its end tells the backend's own count."""
        self.stream = stream
        self._model = model
        self._request_id = request_id
        self._id = f"msg_{secrets.token_hex(12)}"
        self._prompt_tokens = prompt_tokens
        self._begun = False
        #: Whether a backend that wrote the stream so far has told the reason of its end.
        self._has_reason = False
        #: Which block the next delta belongs to; "" when none is open.
        self._open = ""
        self._index = -1
        self._signature = ""
        self._called = False
        #: The blocks of a message that is written whole.
        self._blocks: list[dict[str, Any]] = []
        self._pieces: list[str] = []
        #: What stands around the text of a delta; made anew for each block.
        self._around_text = b"", b""

    def content_type(self) -> bytes:
        return b"text/event-stream" if self.stream else _JSON

    def routed(self, route: Route) -> None:
        if route.stand_in:
            self._model = route.model

    # -- blocks -----------------------------------------------------------------

    def write_events(self, events: Sequence[AnswerEvent]) -> bytes:
        pieces = [] if self._begun else [self._start()]
        for event in events:
            match event:
                case TextDelta(text):
                    pieces.append(self._text(text) if text else b"")
                case ThinkingDelta(text, signature):
                    pieces.append(self._think(text, signature))
                case ToolCall():
                    pieces.append(self._call(event))
                case Embeddings():
                    pass
        return b"".join(pieces)

    def _start(self) -> bytes:
        self._begun = True
        if not self.stream:
            return b""
        usage = {"input_tokens": self._prompt_tokens, "output_tokens": 0}
        return _event("message_start", message=self._message([], None, "", usage))

    def _text(self, text: str) -> bytes:
        begin = b"" if self._open == _TEXT else self._begin(_TEXT, {"type": "text", "text": ""})
        if not self.stream:
            self._pieces.append(text)
            return b""
        return b"%b%b%b%b" % (begin, self._around_text[0], _encode(text), self._around_text[1])

    def _think(self, text: str, signature: str) -> bytes:
        if not text and self._open != _THINKING:
            return b""
        block = {"type": "thinking", "thinking": "", "signature": ""}
        begin = b"" if self._open == _THINKING else self._begin(_THINKING, block)
        self._signature += signature
        if not self.stream:
            self._pieces.append(text)
            return b""
        return begin + (self._delta(type="thinking_delta", thinking=text) if text else b"")

    def _call(self, call: ToolCall) -> bytes:
        self._called = True
        # The result of a call names its id, so there has to be one.
        ident = call.id or f"toolu_{secrets.token_hex(12)}"
        block: dict[str, Any] = {"type": "tool_use", "id": ident, "name": call.name, "input": {}}
        begin = self._begin("tool_use", block)
        if not self.stream:
            block["input"] = msgspec.Raw(call.arguments.encode())
            return b""
        return begin + self._delta(type="input_json_delta", partial_json=call.arguments) + self._close()

    def _begin(self, kind: str, block: dict[str, Any]) -> bytes:
        """The end of the block before, and the start of the next."""
        end = self._close()
        self._open = kind
        self._index += 1
        if not self.stream:
            self._blocks.append(block)
            return b""
        if kind == _TEXT:
            self._cut_delta()
        return end + _event("content_block_start", index=self._index, content_block=block)

    def _cut_delta(self) -> None:
        before, _, after = self._delta(type="text_delta", text="").rpartition(b'""')
        self._around_text = before, after

    def _close(self) -> bytes:
        kind, self._open = self._open, ""
        if not kind:
            return b""
        signature, self._signature = self._signature, ""
        if not self.stream:
            if kind in (_TEXT, _THINKING):
                self._blocks[-1][kind], self._pieces = "".join(self._pieces), []
            if kind == _THINKING:
                self._blocks[-1]["signature"] = signature
            return b""
        last = self._delta(type="signature_delta", signature=signature) if kind == _THINKING else b""
        return last + _event("content_block_stop", index=self._index)

    def _delta(self, **delta: str) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    # -- the end ----------------------------------------------------------------

    def take_over(self, progress: Progress) -> None:
        self._begun = True
        self._has_reason = progress.finished is not None
        for data in event_data(progress.last):
            self._follow(data)
        self._cut_delta()
        try:
            message = _starts.decode(next(iter(event_data(progress.first)), b"{}")).message
        except UNREADABLE:
            return
        self._id, self._model = message.id or self._id, message.model or self._model

    def _follow(self, data: bytes) -> None:
        """The block that stands open behind an event of the backend."""
        try:
            place = _places.decode(data)
        except UNREADABLE:
            return
        if place.index is None:
            return
        if place.type == "content_block_stop":
            self._open, self._signature = "", ""
        elif place.type == "content_block_start" and place.index > self._index:
            # It has no text yet: of those that have, the events told.
            self._close()
            self._begin(place.content_block.type, {"type": place.content_block.type})
        self._index = place.index

    def ends_whole(self, outcome: Outcome) -> bool:
        return not self.stream

    def write_end(self, outcome: Outcome) -> bytes:
        start = b"" if self._begun else self._start()
        close = self._close()
        reason, sequence, usage = self._reason(outcome), outcome.finished.stop_sequence, _usage(outcome)
        if not self.stream:
            return _encode(self._message(self._blocks, reason, sequence, usage)) + b"\n"
        delta = {"stop_reason": reason, "stop_sequence": sequence or None}
        told = b"" if self._has_reason else close + _event("message_delta", delta=delta, usage=usage)
        return b"".join([start, told, _event("message_stop")])

    def _reason(self, outcome: Outcome) -> str:
        finished = outcome.finished
        if finished.reason in _REASONS:
            return _REASONS[finished.reason]
        # Some servers say `stop` behind a call; clients look for it only when told to.
        if self._called:
            return "tool_use"
        return "stop_sequence" if finished.stop_sequence else "end_turn"

    def _message(
        self, content: list[dict[str, Any]], reason: str | None, sequence: str, usage: dict[str, int]
    ) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence or None,
            "usage": usage,
        }

    # -- errors -----------------------------------------------------------------

    def write_error_event(self, error: ProxyError) -> bytes:
        return b"event: error\ndata: %b\n\n" % error_document(error, status_of(error), self._request_id)

    def write_error(self, error: ProxyError) -> tuple[int, bytes, bytes]:
        if error.kind is ErrorKind.MODEL_NOT_FOUND and self._model:
            # Which backends lack it is told by no header of Ollama's, and its clients compare the sentence.
            error = missing_model(self._model)
        return write_error(error, self._request_id)


def _event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **members}))


def _usage(outcome: Outcome) -> dict[str, int]:
    """Tokens of the prompt that a cache spared are counted apart in this API."""
    usage = outcome.finished.usage
    prompt, cached = usage.prompt_tokens or 0, usage.cached_tokens
    found = {"input_tokens": max(0, prompt - (cached or 0)), "output_tokens": usage.output_tokens or 0}
    if usage.is_partial:
        # The server broke off before it told them: absent, not zero.
        known = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.output_tokens}
        found = {name: value for name, value in known.items() if value is not None}
    if cached is not None:
        found["cache_read_input_tokens"] = cached
    return found
