"""One client's answer over HTTP: the sink that both lanes of every HTTP dialect write through.

The dialect itself is a `Writer`, a plain object without I/O; this class owns the exchange and the order of things.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

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
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.ports import Ticket
from ollama_proxy.net.http1.exchange import Exchange, Header
from ollama_proxy.net.http1.status import retry_after

_EVENTS = (b"text/event-stream", b"application/x-ndjson")
_DECISION = b"X-Decision-ID"
#: What is told behind a stream.
_TRAILERS = (b"X-Backend-Used", b"X-Routing-Reason", b"X-Attempts", b"X-Energy-Joules", b"X-Energy-Kind")
_TRAILER_LINE = b"Trailer: %b\r\n" % b", ".join(_TRAILERS)


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

    def take_over(self, progress: Progress) -> None:
        """Go on with a stream that a backend wrote itself, and that came so far. Its events were written before, for
        nobody, so that block and count are nearly what they would be; what it began and how it ended is in its bytes.
        """

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
    """An `AnswerSink` over an exchange. The writer is made when the first word is not the backend's own."""

    __slots__ = (
        "_exchange",
        "_goes_on",
        "_make_writer",
        "_raw",
        "_route",
        "_takes_errors",
        "_trails",
        "_written_by",
        "send_raw",
    )

    def __init__(self, exchange: Exchange, make_writer: Callable[[], Writer]) -> None:
        self._exchange = exchange
        self._make_writer = make_writer
        self._written_by: Writer | None = None
        #: Where the stream comes from, and where what is behind a seam.
        self._route: Route | None = None
        self._goes_on: Route | None = None
        self._raw = self._trails = False
        #: What has begun is a stream of events, among which an error may be told.
        self._takes_errors = True
        # The hot path of the fast lane: the upstream's callback ends in the exchange's own method.
        self.send_raw: Callable[[bytes], None] = exchange.write

    @property
    def _writer(self) -> Writer:
        writer = self._written_by
        if writer is None:
            writer = self._written_by = self._make_writer()
            if self._route is not None:
                writer.routed(self._route)
        return writer

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

    def start_raw(self, status: int, content_type: bytes, length: int | None) -> None:
        self._raw = True
        self._takes_errors = length is None and content_type.startswith(_EVENTS)
        route = self._route
        lines = route_lines(route) if route else b""
        if length is None and self._exchange.takes_trailers:
            self._trails = True
            lines += _TRAILER_LINE
        self._exchange.start(status, content_type, length, lines=lines)

    def relay(self) -> Callable[[bytes], None] | None:
        return self._exchange.relay()

    def continued(self, route: Route) -> None:
        """The head that would tell it is gone: trailers tell it, where the client takes them, and the decision."""
        self._goes_on = route

    def send_whole(self, status: int, content_type: bytes, body: bytes) -> None:
        route = self._route
        self._exchange.respond(status, content_type, body, lines=route_lines(route) if route else b"")

    def take_over(self, progress: Progress) -> None:
        self._raw = False
        writer = self._writer
        # For nobody: the client has it from the backend that broke off.
        writer.write_events([*progress.events, *progress.rest])
        writer.take_over(progress)

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        data = self._writer.write_events(events)
        if data:
            self._start_stream()
            self._exchange.write(data)

    def finish(self, outcome: Outcome) -> None:
        exchange = self._exchange
        if self._raw:
            exchange.end(self._trailers(outcome))
            return
        writer = self._writer
        if exchange.started or not writer.ends_whole(outcome):
            self._start_stream()
            exchange.write(writer.write_end(outcome))
            exchange.end(self._trailers(outcome))
        else:
            exchange.respond(200, writer.content_type(), writer.write_end(outcome), self._headers())

    def fail(self, error: ProxyError) -> None:
        exchange = self._exchange
        if not exchange.started:
            status, content_type, body = self._writer.write_error(error)
            exchange.respond(status, content_type, body, self._error_headers(error))
        elif not self._takes_errors:
            # Less than its length, or half of some other thing: breaking off is the only honest end.
            exchange.abort()
        else:
            if not error.told:
                exchange.write(self._writer.write_error_event(error))
            exchange.end()

    def _start_stream(self) -> None:
        if not self._exchange.started:
            headers = self._headers()
            if self._exchange.takes_trailers:
                self._trails = True
                headers.append((b"Trailer", b", ".join(_TRAILERS)))
            self._exchange.start(200, self._writer.content_type(), None, headers)

    def _trailers(self, outcome: Outcome) -> Sequence[Header]:
        """Who ended the stream and what it took: nobody knew when its head went out."""
        route = self._goes_on or self._route
        if not self._trails or route is None:
            return ()
        told = (route.backend, route.reason, str(route.attempts), _joules(outcome), outcome.energy_kind)
        return [(name, header_text(value)) for name, value in zip(_TRAILERS, told, strict=True) if value]

    def _headers(self) -> list[Header]:
        if self._route is None:
            return []
        return [(name.encode(), header_text(value)) for name, value in self._route.headers()]

    def _error_headers(self, error: ProxyError) -> list[Header]:
        found = self._headers()
        # A route tells it already.
        found += [field for field in hint_fields(error) if self._route is None or field[0] != _DECISION]
        if error.retry_after_s > 0:
            found.append(retry_after(error.retry_after_s))
        return found


def _joules(outcome: Outcome) -> str:
    """Unknown is absent, not zero."""
    return "" if outcome.joules is None else f"{outcome.joules:.3f}"


def route_lines(route: Route) -> bytes:
    """The contract's answer headers as the lines of a head."""
    names = _name_lines(route.backend, route.alternatives)
    if names is None or route.stand_in or route.cache is not None or route.retrieved:
        return b"".join([b"%b: %b\r\n" % (name.encode(), header_text(value)) for name, value in route.headers()])
    # The reason is printable ASCII by its making, the id by the check of the request's own.
    return (
        f"{names[0]}{route.reason}\r\n{_watts_line(route.power_watts)}X-Estimated-Latency-Ms: {route.latency_ms}\r\n"
        f"{names[1]}X-Decision-ID: {route.decision_id}\r\nX-Attempts: {route.attempts}\r\n"
        f"X-Energy-Kind: {route.energy_kind}\r\n"
    ).encode("ascii")


@lru_cache(maxsize=1024)
def _name_lines(backend: str, alternatives: tuple[str, ...]) -> tuple[str, str] | None:
    """The parts of the lines that hold names, for they repeat; None for names that a header cannot hold as they are."""
    others = ",".join(alternatives)
    if not (backend + others).isascii() or not (backend + others).isprintable():
        return None
    return f"X-Backend-Used: {backend}\r\nX-Routing-Reason: ", f"X-Alternatives: {others}\r\n"


@lru_cache(maxsize=256)
def _watts_line(watts: float) -> str:
    """Unknown is absent, not zero."""
    return f"X-Estimated-Power-Watts: {watts:.1f}\r\n" if watts else ""


def hint_fields(error: ProxyError) -> list[Header]:
    """What helps to understand an error: the decision that it came of, models that are called nearly as asked."""
    found = []
    if error.decision_id:
        found.append((_DECISION, header_text(error.decision_id)))
    if error.nearest:
        found.append((b"X-Nearest-Models", header_text(", ".join(error.nearest))))
    return found


def header_text(value: str) -> bytes:
    """A value that is safe in a header line: printable ASCII, everything else replaced."""
    if value.isascii() and value.isprintable():
        return value.encode("ascii")
    return bytes(byte if 32 <= byte < 127 else 63 for byte in value.encode("ascii", "replace"))
