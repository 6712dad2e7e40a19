"""Answers as messages: tokens as they come, then one message with `done` that says how it went and what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Outcome, Progress, Route, TextDelta, ThinkingDelta, ToolCall
from ollama_proxy.domain.errors import ErrorKind, ProxyError

#: Sends one message.
Send = Callable[[bytes], None]
#: What a request that its client has cancelled ends with.
CANCELLED = "cancelled"


class Answer:
    """The sink of one request's answer. There is no fast lane into messages.

    `over` is told its id when the last message is sent.
    """

    def __init__(self, send: Send, over: Callable[[str], None], request_id: str, *, stream: bool) -> None:
        self._send = send
        self._over = over
        self._stream = stream
        self._route: Route | None = None
        self.request_id = request_id
        self.ended = False
        #: All messages begin alike.
        self._begin = b'{"request_id":%b,' % msgspec.json.encode(request_id)
        self._told_route = False
        # What a whole answer is gathered in.
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[dict[str, Any]] = []

    def routed(self, route: Route) -> None:
        self._route = route

    def start_raw(self, status: int, content_type: bytes, length: int | None) -> None:
        raise AssertionError(f"a raw answer ({status} {content_type!r}, {length} bytes) cannot become messages")

    def send_raw(self, data: bytes) -> None:
        raise AssertionError(f"{len(data)} raw bytes cannot become messages")

    def take_over(self, progress: Progress) -> None:
        raise AssertionError(f"a raw answer of {len(progress.events)} events cannot become messages")

    def continued(self, route: Route) -> None:
        """The next message says where it comes from, as the first did."""
        self._route, self._told_route = route, False

    def relay(self) -> None:
        """There is no raw answer."""

    def send_whole(self, status: int, content_type: bytes, body: bytes) -> None:
        raise AssertionError(f"a raw answer ({status} {content_type!r}, {len(body)} bytes) cannot become messages")

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        for event in events:
            match event:
                case TextDelta(text):
                    self._add(text, self._text)
                case ThinkingDelta(text) if text:
                    self._add(text, self._thinking)
                case ToolCall():
                    self._add_call(event)

    def _add(self, text: str, gathered: list[str]) -> None:
        if not self._stream:
            gathered.append(text)
            return
        key = b"" if gathered is self._text else b'"thinking":%b,' % msgspec.json.encode(text)
        token = msgspec.json.encode(text) if gathered is self._text else b'""'
        self._send(b'%b"token":%b,%b%b"done":false}' % (self._begin, token, key, self._route_once()))

    def _add_call(self, call: ToolCall) -> None:
        use = {"id": call.id, "function": {"name": call.name, "arguments": msgspec.Raw(call.arguments.encode())}}
        if self._stream:
            uses = msgspec.json.encode([use])
            self._send(b'%b"token":"","tool_calls":%b,%b"done":false}' % (self._begin, uses, self._route_once()))
        else:
            self._calls.append(use)

    def _route_once(self) -> bytes:
        """Where the answer comes from, with its first token."""
        if self._told_route or self._route is None:
            return b""
        self._told_route = True
        return b'"routing":%b,' % msgspec.json.encode(_describe_route(self._route))

    def finish(self, outcome: Outcome) -> None:
        last: dict[str, Any] = {"request_id": self.request_id, "token": "".join(self._text)}
        if self._thinking:
            last["thinking"] = "".join(self._thinking)
        if self._calls:
            last["tool_calls"] = self._calls
        last |= {"done": True, "done_reason": outcome.finished.reason}
        route = self._route
        if route is not None:
            last |= {"backend": route.backend, "reason": route.reason, "routing": _describe_route(route)}
        self._finish_with(last | _count(outcome))

    def fail(self, error: ProxyError) -> None:
        self._finish_with(describe_error(self.request_id, error, self._route))

    def cancel(self) -> None:
        """The client wants no more of it, and is told that this is the end."""
        error = {"code": CANCELLED, "message": "cancelled by the client"}
        self._finish_with({"request_id": self.request_id, "error": error, "done": True})

    def _finish_with(self, document: dict[str, Any]) -> None:
        if not self.ended:
            self.ended = True
            self._send(msgspec.json.encode(document))
            self._over(self.request_id)


def describe_error(request_id: str, error: ProxyError, route: Route | None = None) -> dict[str, Any]:
    """The message of an error, the last of its request."""
    told: dict[str, Any] = {"code": error.kind.value, "message": error.message}
    if error.retry_after_s > 0:
        told["retry_after_ms"] = round(error.retry_after_s * 1000)
    if error.nearest:
        told["nearest"] = error.nearest
    if error.decision_id:
        told["decision_id"] = error.decision_id
    found: dict[str, Any] = {"request_id": request_id, "error": told, "done": True}
    backend = route.backend if route is not None else error.backend
    return found | {"backend": backend} if backend else found


def refuse(message: str) -> ProxyError:
    """What is wrong with a message."""
    return ProxyError(ErrorKind.INVALID_REQUEST, message)


def _describe_route(route: Route) -> dict[str, Any]:
    """What other ways in say in their headers."""
    return {
        "backend": route.backend,
        "reason": route.reason,
        # Unknown is null, not zero.
        "estimated_power_watts": route.power_watts or None,
        "estimated_latency_ms": route.latency_ms,
        "alternatives": route.alternatives,
        "decision_id": route.decision_id,
        "attempts": route.attempts,
        "energy_kind": route.energy_kind,
        "model": route.model,
        **({} if route.cache is None else {"from_cache": route.cache.state == "hit", "cache": route.cache.state}),
    }


def _count(outcome: Outcome) -> dict[str, Any]:
    """What it took. The four fields beside `stats` are older than it; it has the names of `compute.v1`."""
    first_ms, total_ms = round(outcome.ttft_s * 1000), round(outcome.total_s * 1000)
    tokens, rate = outcome.output_tokens, round(outcome.tokens_per_second, 2)
    usage, joules = outcome.finished.usage, outcome.joules
    return {
        "ttft_ms": first_ms,
        "total_time_ms": total_ms,
        "token_count": tokens,
        "tokens_per_sec": rate,
        "stats": {
            "time_to_first_token_ms": first_ms,
            "total_time_ms": total_ms,
            "tokens_generated": tokens,
            "tokens_per_second": rate,
            "prompt_tokens": usage.prompt_tokens,
            "energy_wh": joules / 3600 if joules is not None else None,
        },
    }
