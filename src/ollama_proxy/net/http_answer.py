"""One client's answer over HTTP: the sink that both lanes of every HTTP dialect write through.

The dialect itself is a `Writer`, a plain object without I/O; this class owns the exchange and the order of things.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Outcome, Route, TextDelta, ThinkingDelta, ToolCall
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.ports import Ticket
from ollama_proxy.net.http1.exchange import Exchange, Header


class Writer(Protocol):
    """One answer in one dialect. A streamed answer uses `write_events` and `write_end`, a whole one `write_body`."""

    stream: bool

    def content_type(self) -> bytes:
        """Of a good answer."""

    def routed(self, route: Route) -> None:
        """Where the answer comes from."""

    def write_events(self, events: Sequence[AnswerEvent]) -> bytes:
        """The next bytes of a stream; for a whole answer the events are gathered and nothing comes back."""

    def write_end(self, outcome: Outcome) -> bytes:
        """The last bytes of a stream, or the whole body."""

    def ends_whole(self, outcome: Outcome) -> bool:
        """Whether an answer that may be streamed, but sent nothing yet, is one object after all."""

    def write_error_event(self, error: ProxyError) -> bytes:
        """The terminal error inside a stream that has begun."""

    def write_error(self, error: ProxyError) -> tuple[int, bytes, bytes]:
        """Status, content type and body of an error answer."""


class Gathered:
    """The events of an answer that is written as one object."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.calls: list[ToolCall] = []
        self.vectors: tuple[tuple[float, ...], ...] = ()

    def add(self, events: Sequence[AnswerEvent]) -> None:
        """Keep the next events."""
        for event in events:
            match event:
                case TextDelta(text):
                    self.text.append(text)
                case ThinkingDelta(text):
                    self.thinking.append(text)
                case ToolCall():
                    self.calls.append(event)
                case Embeddings(vectors):
                    self.vectors = vectors


class HttpAnswer:
    """An `AnswerSink` over an exchange."""

    __slots__ = ("_exchange", "_length", "_raw", "_request_id", "_route", "_writer", "send_raw")

    def __init__(self, exchange: Exchange, request_id: str, writer: Writer) -> None:
        self._exchange = exchange
        self._request_id = request_id
        self._writer = writer
        self._route: Route | None = None
        self._raw = False
        self._length: int | None = None
        # The hot path of the fast lane: the upstream's callback ends in the exchange's own method.
        self.send_raw = exchange.write

    def attach(self, ticket: Ticket) -> None:
        """Tie the client's leaving and its slowness to the work."""
        exchange = self._exchange
        if exchange.ended:
            return
        if exchange.gone:
            ticket.cancel()
            return
        exchange.on_disconnect = ticket.cancel
        exchange.on_pause = ticket.pause
        exchange.on_resume = ticket.resume

    def routed(self, route: Route) -> None:
        self._route = route
        self._writer.routed(route)

    def start_raw(self, status: int, content_type: bytes, length: int | None) -> None:
        self._raw = True
        self._length = length
        exchange, route = self._exchange, self._route
        if route is not None and exchange.request_id and isinstance(exchange, Exchange):
            # HTTP/1.1 takes the lines as they are; in HTTP/2 each field is encoded.
            exchange.fixed_lines += route_lines(route)
            exchange.start(status, content_type, length)
        else:
            exchange.start(status, content_type, length, self._headers())

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        data = self._writer.write_events(events)
        if data:
            self._start_stream()
            self._exchange.write(data)

    def finish(self, outcome: Outcome) -> None:
        exchange, writer = self._exchange, self._writer
        if self._raw:
            exchange.end()
        elif exchange.started or not writer.ends_whole(outcome):
            self._start_stream()
            exchange.write(writer.write_end(outcome))
            exchange.end()
        else:
            exchange.respond(200, writer.content_type(), writer.write_end(outcome), self._headers())

    def fail(self, error: ProxyError) -> None:
        exchange = self._exchange
        if not exchange.started:
            status, content_type, body = self._writer.write_error(error)
            exchange.respond(status, content_type, body, self._error_headers(error))
        elif self._length is not None:
            # The head promised a length that will not be reached: breaking off is the only honest end.
            exchange.abort()
        else:
            exchange.write(self._writer.write_error_event(error))
            exchange.end()

    def _start_stream(self) -> None:
        if not self._exchange.started:
            self._exchange.start(200, self._writer.content_type(), None, self._headers())

    def _headers(self) -> list[Header]:
        found: list[Header] = []
        if not self._exchange.request_id:
            found.append((b"X-Request-ID", self._request_id.encode("latin-1", "replace")))
        if self._route is not None:
            found += [(name.encode(), header_text(value)) for name, value in self._route.headers()]
        return found

    def _error_headers(self, error: ProxyError) -> list[Header]:
        found = self._headers()
        if error.retry_after_s > 0:
            found.append((b"Retry-After", b"%d" % max(1, round(error.retry_after_s))))
        return found


def route_lines(route: Route) -> bytes:
    """The contract's answer headers as the lines of a head."""
    alternatives = ",".join(route.alternatives)
    free = route.backend + route.reason + alternatives + route.decision_id
    if route.stand_in or not (free.isascii() and free.isprintable()):
        return b"".join([b"%b: %b\r\n" % (name.encode(), header_text(value)) for name, value in route.headers()])
    watts = f"X-Estimated-Power-Watts: {route.power_watts:.1f}\r\n" if route.power_watts else ""
    return (
        f"X-Backend-Used: {route.backend}\r\nX-Routing-Reason: {route.reason}\r\n{watts}"
        f"X-Estimated-Latency-Ms: {route.latency_ms}\r\nX-Alternatives: {alternatives}\r\n"
        f"X-Decision-ID: {route.decision_id}\r\nX-Attempts: {route.attempts}\r\nX-Energy-Kind: {route.energy_kind}\r\n"
    ).encode("ascii")


def header_text(value: str) -> bytes:
    """A value that is safe in a header line: printable ASCII, everything else replaced."""
    if value.isascii() and value.isprintable():
        return value.encode("ascii")
    return bytes(byte if 32 <= byte < 127 else 63 for byte in value.encode("ascii", "replace"))
