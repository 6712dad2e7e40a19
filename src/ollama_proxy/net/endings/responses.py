"""How answers of the Responses API end: an event that holds the whole response."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.answer import Finished, Usage
from ollama_proxy.net.bodies.unreadable import UNREADABLE


class _Cached(msgspec.Struct):
    cached_tokens: int | None = None


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


_responses = msgspec.json.Decoder(_ResponsesEnd)
_responses_event = msgspec.json.Decoder(_ResponsesEvent)


#: Some servers send it, though this API has no such marker.
_DONE_LINES = (b"data: [DONE]", b"data:[DONE]")
_RESPONSES_ENDS = frozenset(("response.completed", "response.incomplete"))


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
        if not line.startswith(b"data:") or line.startswith(_DONE_LINES):
            continue
        try:
            event = _responses_event.decode(line[5:])
        except UNREADABLE:
            return None
        return _finish_response(event.response or _ResponsesEnd()) if event.type in _RESPONSES_ENDS else None
    return None
