"""A stream of the Responses API that broke off, read for whoever goes on with it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Finished, TextDelta, ThinkingDelta
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.endings.errors import error_text
from ollama_proxy.net.endings.responses import read_responses_tail
from ollama_proxy.net.lanes.framing import EventBuffer
from ollama_proxy.net.lanes.upstream import DecodeError, UpstreamError


class _Item(msgspec.Struct):
    type: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    delta: str = ""
    item: _Item | None = None


_events = msgspec.json.Decoder(_Event)
_TEXT = "response.output_text.delta"
_THOUGHTS = frozenset(("response.reasoning_summary_text.delta", "response.reasoning_text.delta"))
_ENDS = frozenset(("response.completed", "response.incomplete"))
_FAILURES = frozenset(("error", "response.failed"))
#: Where an item begins, and how it ends bit by bit.
_LANDMARKS = frozenset(
    (
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
    )
)
#: Items that another backend can go on behind.
_PLAIN = frozenset(("message", "reasoning"))


class ResponsesDecoder:
    """Text and thoughts of a stream, and its landmarks: the events that say which items it has, as they came."""

    def __init__(self) -> None:
        self.calling = False
        self.landmarks: list[bytes] = []
        self._buffer = EventBuffer()
        self._finished: Finished | None = None

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        """The events that `data` completes. Raises `DecodeError` and `UpstreamError`."""
        events: list[AnswerEvent] = []
        for payload in self._buffer.feed(data):
            if payload != b"[DONE]":
                self._read(payload, events)
        return events

    def _read(self, payload: bytes, events: list[AnswerEvent]) -> None:
        try:
            event = _events.decode(payload)
        except UNREADABLE as error:
            raise DecodeError(str(error)) from None
        kind = event.type
        if kind == _TEXT:
            events.append(TextDelta(event.delta))
        elif kind in _THOUGHTS:
            events.append(ThinkingDelta(event.delta))
        elif kind in _LANDMARKS:
            self.landmarks.append(payload)
            self.calling = self.calling or (event.item is not None and event.item.type not in _PLAIN)
        elif kind in _ENDS:
            self._finished = read_responses_tail(b"data:" + payload)
        elif kind in _FAILURES:
            raise UpstreamError(error_text(payload) or "error in the answer")

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        """The end, if it was told."""
        return (), self._finished

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        """The same: this API has no further end marker."""
        return (), self._finished
