"""One request on an emulated device: waits its turn, loads, reads the prompt, sends tokens on time, stops when told."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ollama_proxy.domain.answer import (
    AnswerEvent,
    Embeddings,
    Finished,
    Outcome,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    Usage,
)
from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import AnswerSink
from ollama_proxy.lab.faults import Fault
from ollama_proxy.lab.rendering import read_rendered
from ollama_proxy.lab.text import embed_text, fill_schema, prompt_of
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.task import spawn

if TYPE_CHECKING:
    from ollama_proxy.lab.server import EmulatedServer

_DIMENSIONS = 384
_BYTES_PER_TOKEN = 4


class Run:
    """One request's turn; also its client's ticket."""

    def __init__(self, server: EmulatedServer, call: Call, sink: AnswerSink, exchange: Exchange, fault: Fault) -> None:
        self._server = server
        self._call = call
        self._sink = sink
        self._exchange = exchange
        self._fault = fault
        self._speed = server.speed / (fault.factor if fault.fault == "slow" else 1.0)
        self._timer: asyncio.TimerHandle | None = None
        self._events: list[AnswerEvent] = []
        self._sent = 0
        self._reason = "stop"
        self._prompt_tokens = 0
        self._load_s = self._prefill_s = 0.0
        self._keep_s: float | None = None
        self._began_s = 0.0
        self.over = False

    def strike_at_once(self) -> bool:
        """Faults that show before any work; whether this was one."""
        match self._fault.fault:
            case "reset":
                self.over = True
                self._exchange.reset()
            case "stall":
                return True
            case "status":
                self.over = True
                body = msgspec.json.encode({"error": f"emulated fault: status {self._fault.status}"})
                wait = [(b"Retry-After", b"1")] if self._fault.status in (429, 503) else []
                self._exchange.respond(self._fault.status, b"application/json; charset=utf-8", body, wait)
            case "garbage":
                self.over = True
                streamed = self._call.dialect is Dialect.OLLAMA and self._call.stream
                self._exchange.start(200, b"application/x-ndjson" if streamed else b"application/json")
                self._exchange.write(b'{"model": "broken", "response": \n')
                self._exchange.end()
            case _:
                return False
        return True

    def start(self) -> None:
        """The device is free for this request."""
        self._began_s = self._server.loop.time()
        spawn(self._answer(), "emulated answer")

    async def _answer(self) -> None:
        try:
            await self._prepare()
        except Exception as error:  # noqa: BLE001  # a task root
            # A member of the request is not what it should be; the device has to be free for the next in any case.
            self._refuse(ProxyError(ErrorKind.INVALID_REQUEST, f"the request cannot be understood: {error}"))

    async def _prepare(self) -> None:
        server, call = self._server, self._call
        try:
            request = call.typed()
            if isinstance(request, Generation):
                request = read_rendered(request)
            call_of_tool = _call_tool(request) if isinstance(request, Generation) else []
        except ProxyError as error:
            self._refuse(error)
            return
        self._keep_s = read_keep_alive(request.keep_alive)
        self._load_s = server.load_s(call.model)
        if isinstance(request, Embedding):
            # As with a real model, who asks for more gets what there is.
            size = min(request.dimensions or _DIMENSIONS, _DIMENSIONS)
            self._events = [Embeddings(tuple(embed_text(text, size) for text in request.inputs))]
            self._prompt_tokens = sum(_count_tokens(text) for text in request.inputs)
            self._schedule(0.0)
            return
        if not request.prompt and not request.messages:
            self._reason = "unload" if self._keep_s == 0 else "load"
            self._schedule(0.0)
            return
        self._prompt_tokens = _count_tokens(prompt_of(request))
        if self._fault.fault == "too_long" and self._prompt_tokens > self._fault.tokens:
            self._refuse(ProxyError(ErrorKind.INVALID_REQUEST, "the input length exceeds the context length"))
            return
        try:
            words, self._reason = await server.text.write(call.model, request)
        except ProxyError as error:
            self._refuse(error)
            return
        if call_of_tool:
            self._reason = "tool_calls"
        thoughts = _thoughts(request)
        limit = request.sampling.num_predict or 0
        self._events = [*thoughts, *(call_of_tool or [TextDelta(word) for word in words])]
        if thoughts and 0 < limit < len(self._events):
            self._events, self._reason = self._events[:limit], "length"
        if not self.over:
            self._schedule(self._server.device.first_token_s)

    def _refuse(self, error: ProxyError) -> None:
        self.over = True
        self._sink.fail(error)
        self._server.release(self)

    def _schedule(self, first_token_s: float) -> None:
        self._prefill_s = first_token_s + self._prompt_tokens / self._server.device.prefill_tps
        self._timer = self._server.loop.call_at(self._due_s(0), self._tick)

    def _due_s(self, index: int) -> float:
        """When an event is due, reckoned from the start of the turn so that lateness does not add up."""
        work_s = self._load_s + self._prefill_s + index / self._server.device.decode_tps
        return self._began_s + work_s / self._speed

    def _tick(self) -> None:
        """Send what is due by now."""
        now_s = self._server.loop.time()
        due = []
        while self._sent < len(self._events) and self._due_s(self._sent) <= now_s:
            due.append(self._events[self._sent])
            self._sent += 1
            if self._fault.fault == "cut" and self._sent > self._fault.after_chunks:
                self._cut(due[:-1])
                return
        if self._fault.fault == "cut" and self._sent == len(self._events) == self._fault.after_chunks:
            self._cut(due)
            return
        self._send(due)
        if self._sent >= len(self._events):
            self._finish()
        else:
            self._timer = self._server.loop.call_at(self._due_s(self._sent), self._tick)

    def _send(self, events: Sequence[AnswerEvent]) -> None:
        # One piece a token, as a real server sends them, whatever came due together.
        for event in events:
            self._sink.send_events((event,))
        self._server.counts["tokens"] += len(events)

    def _cut(self, last: Sequence[AnswerEvent]) -> None:
        self._send(last)
        exchange, how = self._exchange, self._fault.how
        if how == "stall":
            # It stays at work until its client has enough of it.
            return
        self.over = True
        if how == "half":
            exchange.write(b'{"model":"half an' if self._call.dialect is Dialect.OLLAMA else b'data: {"id":"half an')
        if how == "end":
            exchange.end()
        else:
            # From the loop: what was written has to leave before the connection breaks.
            self._server.loop.call_later(0.005, exchange.reset if how == "reset" else exchange.abort)
        self._settle()

    def _finish(self) -> None:
        self.over = True
        self._settle()
        self._server.counts["finished"] += 1
        decode_s = len(self._events) / self._server.device.decode_tps
        usage = Usage(
            prompt_tokens=self._prompt_tokens,
            output_tokens=len(self._events),
            total_ns=round((self._load_s + self._prefill_s + decode_s) / self._speed * 1e9),
            load_ns=round(self._load_s / self._speed * 1e9),
            prompt_ns=round(self._prefill_s / self._speed * 1e9),
            decode_ns=round(decode_s / self._speed * 1e9),
        )
        tokens = len(self._events)
        self._sink.finish(Outcome(Finished(self._reason, usage), 0.0, 0.0, tokens, 0.0, None, "emulated"))

    def _settle(self) -> None:
        """Book the energy, keep or drop the model as asked, and make room."""
        self._server.joules += self.joules()
        self._server.keep(self._call.model, self._keep_s)
        self._server.release(self)

    def joules(self) -> float:
        """Spent so far, in the device's own, unhurried seconds."""
        return (self._server.loop.time() - self._began_s) * self._server.speed * self._server.device.watts

    # -- the client's ticket ---------------------------------------------------

    def cancel(self) -> None:
        """The client has gone: stop at once."""
        if self.over:
            return
        self.over = True
        self._server.counts["cancelled"] += 1
        self._server.last_cancelled_s = self._server.loop.time()
        if self._timer is not None:
            self._timer.cancel()
        if self in self._server.active:
            self._settle()

    def pause(self) -> None:
        """A device does not wait for its reader."""

    def resume(self) -> None:
        """A device does not wait for its reader."""


def read_keep_alive(value: Any) -> float | None:
    """Seconds of a `keep_alive`: a number, or a duration such as `10m`; infinite when negative, None when not given."""
    if isinstance(value, str):
        found = re.fullmatch(r"(-?[0-9.]+)(ms|s|m|h)", value.strip())
        if found is None:
            raise ProxyError(ErrorKind.INVALID_REQUEST, f'time: invalid duration "{value[:40]}"')
        value = float(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if value >= 0 else math.inf


def _count_tokens(text: str) -> int:
    return max(1, len(text.encode()) // _BYTES_PER_TOKEN)


def _thoughts(request: Generation) -> list[AnswerEvent]:
    if not request.think:
        return []
    words, last = ["Let", " me", " think", "."], request.messages[-1] if request.messages else None
    if last is not None and last.role == "assistant":
        # It goes on where another stopped: nothing of what was thought is thought again.
        said = sum(last.thinking.startswith("".join(words[:place])) for place in (1, 2, 3, 4))
        words = [] if last.content else words[said:]
    return [ThinkingDelta(word) for word in words]


def _call_tool(request: Generation) -> list[AnswerEvent]:
    """A call of the tool that must be called, or of the first that the prompt names; with a tool's result at hand the
    model answers instead."""
    choice = request.tool_choice
    forced = choice == "required" or isinstance(choice, dict)
    if not forced and (choice == "none" or (request.messages and request.messages[-1].role == "tool")):
        return []
    prompt = prompt_of(request)
    functions = [tool.get("function") for tool in request.tools if isinstance(tool, dict)]
    named: list[dict[str, Any]] = [function for function in functions if isinstance(function, dict)]
    if isinstance(choice, dict):
        wanted = choice.get("function")
        named = [function for function in named if isinstance(wanted, dict) and function["name"] == wanted.get("name")]
    chosen = next((function for function in named if function.get("name") and function["name"] in prompt), None)
    if chosen is None:
        chosen = named[-1] if forced and named else None
    if chosen is None:
        return []
    arguments = fill_schema(prompt, chosen.get("parameters")) if forced else "{}"
    return [ToolCall(0, "call_emulated", str(chosen["name"]), arguments)]
