"""Answers of OpenAI's API: event streams, whole objects, errors."""

from __future__ import annotations

import base64 as base64_codec
import struct
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Outcome, Route, TextDelta, ThinkingDelta, ToolCall
from ollama_proxy.domain.call import Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.http_answer import Gathered

_JSON = b"application/json"
_encode = msgspec.json.Encoder().encode
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


class OpenAiWriter:
    """One answer of chat completions, completions or embeddings."""

    def __init__(
        self,
        model: str,
        operation: Operation,
        request_id: str,
        *,
        stream: bool,
        with_usage: bool = False,
        base64: bool = False,
    ) -> None:
        self.stream = stream
        self._model = model
        self._chat = operation is Operation.CHAT
        self._embed = operation is Operation.EMBED
        self._id = ("chatcmpl-" if self._chat else "cmpl-") + request_id
        self._created = int(time.time())
        self._with_usage = with_usage
        self._base64 = base64
        self._begun = False
        self._gathered = Gathered()
        #: What stands around the text in a chunk that has nothing else; made when the first is written.
        self._around_text: tuple[bytes, bytes] | None = None

    def content_type(self) -> bytes:
        return b"text/event-stream" if self.stream else _JSON

    def routed(self, route: Route) -> None:
        if route.stand_in:
            self._model = route.model

    def write_events(self, events: Sequence[AnswerEvent]) -> bytes:
        if not self.stream:
            self._gathered.add(events)
            return b""
        pieces = [self._event(event) for event in events]
        if not self._begun:
            pieces.insert(0, self._first())
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _first(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._chunk({"role": "assistant", "content": ""}) if self._chat else b""

    def _event(self, event: AnswerEvent) -> bytes:
        match event:
            case TextDelta():
                around = self._around_text or self._cut_chunk()
                return b"%b%b%b" % (around[0], _encode(event.text), around[1])
            case ThinkingDelta(text):
                return self._chunk({"reasoning": text})
            case ToolCall():
                return self._chunk({"tool_calls": [_tool_call(event)]})
            case Embeddings():
                return b""

    def _cut_chunk(self) -> tuple[bytes, bytes]:
        before, _, after = self._chunk({"content": ""}).rpartition(b'""')
        self._around_text = before, after
        return before, after

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0}
        if self._chat:
            choice["delta"] = delta
        else:
            choice["text"] = delta.get("content", "")
        choice["finish_reason"] = reason
        return self._data({**self._head(), "choices": [choice]})

    def _head(self) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if self.stream else "chat.completion") if self._chat else "text_completion"
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    @staticmethod
    def _data(document: dict[str, Any]) -> bytes:
        return b"data: %b\n\n" % msgspec.json.encode(document)

    def ends_whole(self, outcome: Outcome) -> bool:
        return not self.stream

    def write_end(self, outcome: Outcome) -> bytes:
        if self._embed:
            return self._embedded(outcome)
        reason = outcome.finished.reason
        reason = reason if reason in ("length", "tool_calls", "content_filter") else "stop"
        if not self.stream:
            return self._whole(reason, outcome)
        parts = [self._first(), self._chunk({}, reason)]
        if self._with_usage:
            parts.append(self._data({**self._head(), "choices": [], "usage": _usage(outcome)}))
        parts.append(b"data: [DONE]\n\n")
        return b"".join(parts)

    def _whole(self, reason: str, outcome: Outcome) -> bytes:
        text = "".join(self._gathered.text)
        choice: dict[str, Any] = {"index": 0}
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if self._gathered.thinking:
                message["reasoning"] = "".join(self._gathered.thinking)
            if self._gathered.calls:
                message["tool_calls"] = [_tool_call(call) for call in self._gathered.calls]
            choice["message"] = message
        else:
            choice["text"] = text
        choice["finish_reason"] = reason
        return msgspec.json.encode({**self._head(), "choices": [choice], "usage": _usage(outcome)}) + b"\n"

    def _embedded(self, outcome: Outcome) -> bytes:
        data = [
            {"object": "embedding", "embedding": self._vector(vector), "index": index}
            for index, vector in enumerate(self._gathered.vectors)
        ]
        tokens = outcome.finished.usage.prompt_tokens or 0
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return msgspec.json.encode({"object": "list", "data": data, "model": self._model, "usage": usage}) + b"\n"

    def _vector(self, vector: tuple[float, ...]) -> Any:
        if not self._base64:
            return vector
        return base64_codec.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")

    def write_error_event(self, error: ProxyError) -> bytes:
        return b"data: %b\n\n" % _error_document(error, error.kind.http_status)

    def write_error(self, error: ProxyError) -> tuple[int, bytes, bytes]:
        return write_error(error)


def write_error(error: ProxyError) -> tuple[int, bytes, bytes]:
    """Status, content type and body of an error; a refusal by a backend keeps the backend's own words."""
    if error.kind is ErrorKind.BACKEND_REFUSED:
        status = error.status or error.kind.http_status
        if error.body.lstrip().startswith(b'{"error":{'):
            return status, error.content_type or _JSON, error.body
        return status, _JSON, _error_document(error, status) + b"\n"
    status = error.kind.http_status
    return status, _JSON, _error_document(error, status) + b"\n"


def _error_document(error: ProxyError, status: int) -> bytes:
    document = {
        "message": error.message,
        "type": _TYPES.get(status, "api_error"),
        "param": None,
        "code": error.kind.value,
    }
    return msgspec.json.encode({"error": document})


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.id or f"call_{call.index}", "type": "function", "function": function}


def _usage(outcome: Outcome) -> dict[str, int]:
    usage = outcome.finished.usage
    prompt, output = usage.prompt_tokens or 0, usage.output_tokens or 0
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
