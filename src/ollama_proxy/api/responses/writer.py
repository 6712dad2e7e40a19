"""Answers of the Responses API that are translated: the whole object, or the full sequence of its events."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from ollama_proxy.api.responses.document import describe_usage, make_id, new_response
from ollama_proxy.api.responses.errors import describe_error, failure_code, missing_model, write_error
from ollama_proxy.api.responses.file_search import Searched
from ollama_proxy.domain.answer import AnswerEvent, Outcome, Progress, Route, TextDelta, ThinkingDelta, ToolCall
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.lanes.framing import event_data

_encode = msgspec.json.Encoder().encode
#: How answers end that are not complete, by the reason of their end.
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
#: What may stand in front of a message, and is none.
_NO_ANSWERS = frozenset(("reasoning", "file_search_call"))
_SEQUENCE = re.compile(rb'"sequence_number":\s*(\d+)')


class _Begun(msgspec.Struct):
    response: dict[str, Any]


class _Mark(msgspec.Struct):
    type: str
    item: dict[str, Any] = {}


class ResponsesWriter:
    """One answer. Both forms go through the same states; a whole answer just keeps its events to itself."""

    def __init__(
        self, body: bytes, model: str, *, stream: bool, previous: str = "", searched: Searched | None = None
    ) -> None:
        """`body` is the request's, of which some members come back; `previous` the answer it goes on from; `searched`
        what was found in files for it."""
        self.stream = stream
        self.response = new_response(body, model, previous, searched.tools if searched is not None else ())
        self._searched = searched
        self._output: list[dict[str, Any]] = self.response["output"]
        self._sequence = 0
        self._pieces: list[bytes] = []
        self._begun = False
        #: The item in the making: None, or one that stands last in the output.
        self._open: dict[str, Any] | None = None
        self._texts: list[str] = []
        self._logprobs: list[Any] = []
        #: What stands around the text in an event of the open item.
        self._around = b"", b""

    def content_type(self) -> bytes:
        return b"text/event-stream" if self.stream else b"application/json"

    def routed(self, route: Route) -> None:
        if route.stand_in:
            self.response["model"] = route.model

    # -- events in -------------------------------------------------------------------

    def write_events(self, events: Sequence[AnswerEvent]) -> bytes:
        self._begin()
        for event in events:
            match event:
                case TextDelta(text, logprobs):
                    self._add_text(text, logprobs)
                case ThinkingDelta(text) if text:
                    self._add_thought(text)
                case ToolCall():
                    self._add_call(event)
        return self._flush()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._emit("response.created", {"response": self.response})
            self._emit("response.in_progress", {"response": self.response})
            if self._searched is not None:
                self._tell_search(self._searched)

    def _tell_search(self, searched: Searched) -> None:
        item: dict[str, Any] = {"id": make_id("fs"), "type": "file_search_call", "status": "in_progress"}
        item |= {"queries": [], "results": None}
        place = {"item_id": item["id"], **self._add_item(item)}
        self._emit("response.file_search_call.in_progress", place)
        self._emit("response.file_search_call.searching", place)
        self._emit("response.file_search_call.completed", place)
        item["queries"], item["results"] = [searched.query] if searched.query else [], searched.results()
        self._end_item(item, "completed")

    def _add_text(self, text: str, logprobs: tuple[Any, ...]) -> None:
        if self._open is None or self._open["type"] != "message":
            self._open_message()
        self._texts.append(text)
        shown = b"[]"
        if logprobs:
            # Some servers leave out the alternatives where there are none.
            entries = [{"top_logprobs": [], **entry} for entry in logprobs]
            self._logprobs += entries
            shown = _encode(entries)
        if self.stream:
            before, after = self._around
            piece = b'%b%b,"logprobs":%b%b%d}\n\n' % (before, _encode(text), shown, after, self._sequence)
            self._pieces.append(piece)
            self._sequence += 1

    def _add_thought(self, text: str) -> None:
        if self._open is None or self._open["type"] != "reasoning":
            self._open_reasoning()
        self._texts.append(text)
        if self.stream:
            before, after = self._around
            self._pieces.append(b"%b%b%b%d}\n\n" % (before, _encode(text), after, self._sequence))
            self._sequence += 1

    def _add_call(self, call: ToolCall) -> None:
        self._close("completed")
        ident = make_id("fc")
        item = {
            "id": ident,
            "type": "function_call",
            "status": "in_progress",
            "call_id": call.id or make_id("call"),
            "name": call.name,
            "arguments": "",
        }
        place = self._add_item(item)
        arguments = call.arguments or "{}"
        place = {"item_id": ident, **place}
        self._emit("response.function_call_arguments.delta", {**place, "delta": arguments})
        self._emit("response.function_call_arguments.done", {**place, "arguments": arguments})
        item["arguments"] = arguments
        self._end_item(item, "completed")

    # -- items -----------------------------------------------------------------------

    def _open_message(self) -> None:
        self._close("completed")
        item = {"id": make_id("msg"), "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        place = {"item_id": item["id"], **self._add_item(item), "content_index": 0}
        self._emit("response.content_part.added", {**place, "part": _text_part("", [])})
        self._open = item
        self._around = _cut("response.output_text.delta", place)

    def _open_reasoning(self) -> None:
        self._close("completed")
        item = {"id": make_id("rs"), "type": "reasoning", "summary": []}
        place = {"item_id": item["id"], **self._add_item(item), "summary_index": 0}
        self._emit("response.reasoning_summary_part.added", {**place, "part": _summary_part("")})
        self._open = item
        self._around = _cut("response.reasoning_summary_text.delta", place)

    def _close(self, status: str) -> None:
        """End the open item, if there is one."""
        item = self._open
        if item is None:
            return
        self._open = None
        text, logprobs = "".join(self._texts), self._logprobs
        self._texts, self._logprobs = [], []
        place = {"item_id": item["id"], "output_index": len(self._output) - 1}
        if item["type"] == "message":
            place["content_index"] = 0
            part = _text_part(text, logprobs)
            for number, citation in enumerate(self._searched.cite(text) if self._searched is not None else ()):
                part["annotations"].append(citation)
                told = {**place, "annotation_index": number, "annotation": citation}
                self._emit("response.output_text.annotation.added", told)
            self._emit("response.output_text.done", {**place, "text": text, "logprobs": logprobs})
            self._emit("response.content_part.done", {**place, "part": part})
            item["content"] = [part]
        else:
            place["summary_index"] = 0
            part = _summary_part(text)
            self._emit("response.reasoning_summary_text.done", {**place, "text": text})
            self._emit("response.reasoning_summary_part.done", {**place, "part": part})
            item["summary"] = [part]
            # Nothing is encrypted here. Clients send it back, so that the model has its thoughts again.
            item["encrypted_content"] = text
        self._end_item(item, status)

    def _add_item(self, item: dict[str, Any]) -> dict[str, Any]:
        place = {"output_index": len(self._output)}
        self._output.append(item)
        self._emit("response.output_item.added", {**place, "item": item})
        return place

    def _end_item(self, item: dict[str, Any], status: str) -> None:
        if "status" in item:
            item["status"] = status
        self._emit("response.output_item.done", {"output_index": len(self._output) - 1, "item": item})

    # -- the end ---------------------------------------------------------------------

    def ends_whole(self, outcome: Outcome) -> bool:
        return not self.stream

    def write_end(self, outcome: Outcome) -> bytes:
        """The last events, or the whole object."""
        self._begin()
        finished, response = outcome.finished, self.response
        lack = _INCOMPLETE.get(finished.reason)
        status = "incomplete" if lack else "completed"
        if all(item["type"] in _NO_ANSWERS for item in self._output):
            # Clients look for the message, whatever is in it.
            self._open_message()
        self._close(status)
        response["status"] = status
        response["completed_at"] = None if lack else int(time.time())
        response["incomplete_details"] = {"reason": lack} if lack else None
        response["usage"] = describe_usage(finished.usage)
        self._emit(f"response.{status}", {"response": response})
        return self._flush() if self.stream else _encode(response) + b"\n"

    def write_error_event(self, error: ProxyError) -> bytes:
        """The end of a stream that broke off: `error`, for clients that wait for it, and `response.failed`."""
        self._begin()
        status = error.kind.http_status
        told = describe_error(error, status)
        self._emit("error", {"code": failure_code(error), "message": told["message"], "param": told["param"]})
        self._leave_open()
        self.response["status"] = "failed"
        self.response["error"] = {"code": failure_code(error), "message": told["message"]}
        self._emit("response.failed", {"response": self.response})
        return self._flush()

    def _leave_open(self) -> None:
        """What there is of the open item goes into the object; it has no end of its own."""
        item, self._open = self._open, None
        if item is None:
            return
        text = "".join(self._texts)
        if item["type"] == "message":
            item["status"], item["content"] = "incomplete", [_text_part(text, self._logprobs)]
        else:
            item["summary"] = [_summary_part(text)]

    def write_error(self, error: ProxyError) -> tuple[int, bytes, bytes]:
        if error.kind is ErrorKind.MODEL_NOT_FOUND:
            error = missing_model(self.response["model"])
        return write_error(error)

    def take_over(self, progress: Progress) -> None:
        """Go on from a backend's own stream, to end it."""
        first, last = progress.first, progress.last
        number = 0
        for match in _SEQUENCE.finditer(last):
            number = int(match[1]) + 1
        try:
            self.response = msgspec.json.decode(event_data(first)[0], type=_Begun).response
        except (*UNREADABLE, IndexError):
            pass
        self._begun, self._sequence = True, number
        # What was written of it for nobody has other ids.
        self._pieces, self._texts, self._open = [], [], None
        self._output = self.response["output"] = []
        if b'"response.created"' in last and b'"response.in_progress"' not in last:
            self._emit("response.in_progress", {"response": self.response})
        self._reopen(progress)

    def _reopen(self, progress: Progress) -> None:
        """Take up the items of a stream where they stand."""
        begun: list[str] = []
        for data in progress.landmarks:
            mark = msgspec.json.decode(data, type=_Mark)
            if mark.type == "response.output_item.added":
                self._output.append(mark.item)
                begun = []
            elif mark.type == "response.output_item.done":
                self._output[-1:] = [mark.item]
                begun = ["over"]
            else:
                begun.append(mark.type)
        if not self._output or begun == ["over"]:
            return
        item = self._output[-1]
        kind = TextDelta if item["type"] == "message" else ThinkingDelta
        text = "".join([event.text for event in progress.events if isinstance(event, kind)])
        before = sum([_count_chars(one) for one in self._output[:-1] if one["type"] == item["type"]])
        self._open_again(item, text[before:], begun)

    def _open_again(self, item: dict[str, Any], text: str, begun: Sequence[str]) -> None:
        """Go on with an item; `begun` are its landmarks behind its beginning."""
        place = {"item_id": item["id"], "output_index": len(self._output) - 1}
        if item["type"] == "message":
            place["content_index"] = 0
            kind, part, delta = "response.content_part.added", _text_part("", []), "response.output_text.delta"
        else:
            place["summary_index"] = 0
            kind, part = "response.reasoning_summary_part.added", _summary_part("")
            delta = "response.reasoning_summary_text.delta"
        if not text and not begun:
            self._emit(kind, {**place, "part": part})
        self._open, self._texts, self._around = item, [text], _cut(delta, place)
        ended = sum(one.endswith(".done") for one in begun)
        if ended:
            # Its end has begun: the rest of it goes out with whatever comes next.
            self._sequence -= ended
            self._close("completed")
            del self._pieces[:ended]

    # -- bytes out -------------------------------------------------------------------

    def _emit(self, kind: str, members: dict[str, Any]) -> None:
        if self.stream:
            document = _encode({"type": kind, **members, "sequence_number": self._sequence})
            self._pieces.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), document))
            self._sequence += 1

    def _flush(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _cut(kind: str, place: dict[str, Any]) -> tuple[bytes, bytes]:
    """An event of a piece of text, cut where the text and the number go."""
    document = _encode({"type": kind, **place})
    before = b'event: %b\ndata: %b,"delta":' % (kind.encode(), document[:-1])
    return before, b',"sequence_number":'


def _count_chars(item: dict[str, Any]) -> int:
    """Of the text in an item that is whole."""
    parts = item.get("content") or item.get("summary") or ()
    return sum([len(part.get("text") or "") for part in parts])


def _text_part(text: str, logprobs: list[Any]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _summary_part(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}
