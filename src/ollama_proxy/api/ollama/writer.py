"""Answers of Ollama's API: NDJSON objects, whole objects, errors."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

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
from ollama_proxy.domain.call import Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.http_answer import Gathered

JSON = b"application/json; charset=utf-8"
_encode = msgspec.json.Encoder().encode
#: Reasons of ends that clients of this API know; whatever is not here is `stop`.
_REASONS = frozenset(("stop", "length", "load", "unload"))


class OllamaWriter:
    """One answer of generate, chat or embed (`legacy`: the older `/api/embeddings`)."""

    def __init__(self, model: str, operation: Operation, *, stream: bool, legacy: bool = False) -> None:
        self.stream = stream and operation is not Operation.EMBED
        self._model = model
        self._operation = operation
        self._legacy = legacy
        self._gathered = Gathered()
        #: What stands around time and text in a line that has nothing else; made when the first is written.
        self._around_text: tuple[bytes, bytes, bytes] | None = None

    def content_type(self) -> bytes:
        return b"application/x-ndjson" if self.stream else JSON

    def routed(self, route: Route) -> None:
        if route.stand_in:
            self._model = route.model

    def write_events(self, events: Sequence[AnswerEvent]) -> bytes:
        if not self.stream:
            self._gathered.add(events)
            return b""
        if len(events) == 1:
            return self._line(events[0])
        return b"".join([self._line(event) for event in events])

    def _line(self, event: AnswerEvent) -> bytes:
        match event:
            case TextDelta():
                around = self._around_text or self._cut_line()
                return b"%b%b%b%b%b" % (around[0], now_text(), around[1], _encode(event.text), around[2])
            case ThinkingDelta(text):
                return self._object(thinking=text) if text else b""
            case ToolCall():
                return self._object(calls=[_tool_call(event)])
            case Embeddings():
                return b""

    def _cut_line(self) -> tuple[bytes, bytes, bytes]:
        chat = self._operation is Operation.CHAT
        before = b'{"model":%b,"created_at":"' % _encode(self._model)
        between = b'","message":{"role":"assistant","content":' if chat else b'","response":'
        after = b'},"done":false}\n' if chat else b',"done":false}\n'
        self._around_text = before, between, after
        return before, between, after

    def _object(self, text: str = "", thinking: str = "", calls: Sequence[Any] = (), **last: Any) -> bytes:
        document: dict[str, Any] = {"model": self._model, "created_at": now_text().decode()}
        if self._operation is Operation.CHAT:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if thinking:
                message["thinking"] = thinking
            if calls:
                message["tool_calls"] = calls
            document["message"] = message
        else:
            document["response"] = text
            if thinking:
                document["thinking"] = thinking
        document["done"] = bool(last)
        document.update(last)
        return msgspec.json.encode(document) + (b"\n" if self.stream else b"")

    def take_over(self, progress: Progress) -> None:
        """Lines stand for themselves here."""

    def ends_whole(self, outcome: Outcome) -> bool:
        # Loading and unloading is answered with one object, streamed or not.
        if outcome.finished.reason in ("load", "unload"):
            self.stream = False
        return not self.stream

    def write_end(self, outcome: Outcome) -> bytes:
        if self._operation is Operation.EMBED:
            return self._embedded(outcome)
        usage = outcome.finished.usage
        total_ns = usage.total_ns or round(outcome.total_s * 1e9)
        reason = outcome.finished.reason
        last = {
            "done_reason": reason if reason in _REASONS else "stop",
            "total_duration": total_ns,
            "load_duration": usage.load_ns,
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": usage.prompt_ns,
            "eval_count": usage.output_tokens,
            "eval_duration": usage.decode_ns or round(max(0.0, outcome.total_s - outcome.ttft_s) * 1e9),
        }
        # What is zero is left out, as Go does.
        present = {name: value for name, value in last.items() if value}
        gathered = self._gathered
        calls = [_tool_call(call) for call in gathered.calls]
        return self._object("".join(gathered.text), "".join(gathered.thinking), calls, **present)

    def _embedded(self, outcome: Outcome) -> bytes:
        if self._legacy:
            return msgspec.json.encode({"embedding": self._gathered.vectors[0] if self._gathered.vectors else []})
        usage = outcome.finished.usage
        return msgspec.json.encode(
            {
                "model": self._model,
                "embeddings": self._gathered.vectors,
                "total_duration": usage.total_ns or round(outcome.total_s * 1e9),
                "load_duration": usage.load_ns or 0,
                "prompt_eval_count": usage.prompt_tokens or 0,
            }
        )

    def write_idle(self, reason: str) -> bytes:
        """The whole answer to a request that only loads or unloads."""
        self.stream = False
        return self._object(done_reason=reason)

    def write_error_event(self, error: ProxyError) -> bytes:
        return self.error_body(error.message) + b"\n"

    def write_error(self, error: ProxyError) -> tuple[int, bytes, bytes]:
        if error.kind in _ERRORS_OF_BACKENDS and _is_native(error.body):
            return error.status, error.content_type or JSON, error.body
        return error.kind.http_status, JSON, self.error_body(error.message)

    @staticmethod
    def error_body(message: str) -> bytes:
        """An error as Ollama writes it."""
        return encode({"error": message})


_FOR_PAGES = re.compile(rb"[<>&]|\xe2\x80[\xa8\xa9]")


def encode(document: Any) -> bytes:
    """JSON as Go writes it, for whom any text may end up in a page."""
    return _FOR_PAGES.sub(lambda match: b"\\u%04x" % ord(match[0].decode()), msgspec.json.encode(document))


class _NativeError(msgspec.Struct):
    error: str


_native_errors = msgspec.json.Decoder(_NativeError)
_ERRORS_OF_BACKENDS = frozenset((ErrorKind.BACKEND_REFUSED, ErrorKind.BACKEND_FAILED, ErrorKind.RATE_LIMITED))


def _is_native(body: bytes) -> bool:
    """Whether a backend's error is one that clients of this API understand."""
    try:
        return bool(body) and bool(_native_errors.decode(body).error)
    except UNREADABLE:
        return False


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"index": call.index, "name": call.name, "arguments": msgspec.Raw(call.arguments.encode() or b"{}")}
    return {"id": call.id, "function": function} if call.id else {"function": function}


def now_text() -> bytes:
    """The time of day as Ollama writes it (RFC 3339, UTC)."""
    now_us = time.time_ns() // 1000
    return b"%b.%06dZ" % (_second_text(now_us // 1_000_000), now_us % 1_000_000)


@lru_cache(maxsize=4)
def _second_text(unix_s: int) -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s)).encode()
