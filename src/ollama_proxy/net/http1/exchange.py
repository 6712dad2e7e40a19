"""One request and its answer on the server side.

A handler gets the exchange when the whole request is there (`body.py` has the exception) and answers through it, at
once or later, in pieces or whole. Back-pressure and the client's leaving come as callbacks that the handler sets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, overload

from ollama_proxy.domain.caller import ANYBODY, Caller
from ollama_proxy.net.credentials import CALLER
from ollama_proxy.net.uptake import forget_unsent

from .fields import Header, Headers, read_tokens
from .head import RequestHead
from .status import date_line, head_begin, head_begins

if TYPE_CHECKING:
    from .body import StreamedExchange
    from .server import Guest

__all__ = ["BodySink", "Exchange", "ExchangeOwner", "Header", "Headers", "UpgradeNotAsked"]


_BODILESS = frozenset((204, 304))
#: Larger bodies are not copied behind their head: the same page may wait for many clients.
_COPIED_BYTES = 64 * 1024


class UpgradeNotAsked(RuntimeError):
    """A handler wants the raw connection of a request that asks for no upgrade, or has its answer begun."""


class ExchangeOwner(Protocol):
    """The connection an exchange belongs to."""

    transport: asyncio.Transport

    def exchange_ended(self, exchange: Exchange) -> None:
        """The answer is complete."""

    def hand_over(self, exchange: Exchange, guest: Guest | None) -> bytes:
        """The connection speaks HTTP no more; returns the bytes that came behind the request."""

    def body_comes(self, exchange: StreamedExchange) -> None:
        """The next exchange is handed out before its body is there."""

    def body_wanted(self) -> None:
        """Its handler begins to take the body, or goes on."""

    def body_unwanted(self) -> None:
        """No more of it for now."""


class BodySink(Protocol):
    """Takes a request's body in pieces."""

    def on_body(self, data: bytes) -> None:
        """The next bytes, framing removed."""

    def on_body_end(self) -> None:
        """The body is whole."""


class Exchange:
    """A request (read-only fields) and the writer of its answer."""

    __slots__ = (
        "_bodiless",
        "_chunked",
        "_head",
        "_left",
        "_owner",
        "body",
        "ended",
        "fixed_lines",
        "gone",
        "head",
        "keep_alive",
        "method",
        "on_disconnect",
        "on_pause",
        "on_resume",
        "on_status",
        "path",
        "peer",
        "request_id",
        "started",
    )

    def __init__(self, owner: ExchangeOwner, head: RequestHead, peer: str) -> None:
        self._owner = owner
        #: Shared with other requests of the connection: read only.
        self.head = head
        self.method = head.method
        self.path = head.path
        self.peer = peer
        self.body = b""
        #: Set by the front, which also echoes it in `fixed_lines`.
        self.request_id = ""
        #: Header lines, ends included, that this server puts on every answer.
        self.fixed_lines = b""
        self.keep_alive = head.keep_alive
        self.on_disconnect: Callable[[], None] | None
        self.on_pause: Callable[[], None] | None
        self.on_resume: Callable[[], None] | None
        self._head: bytes | None
        self._left: int | None
        #: Told the status of the answer, once.
        self.on_status: Callable[[int], None] | None
        self.on_disconnect = self.on_pause = self.on_resume = self._head = self._left = self.on_status = None
        self.started = self.ended = self.gone = self._chunked = False
        self._bodiless = head.is_head

    @property
    def target(self) -> bytes:
        """Path and query as they came."""
        return self.head.target

    @property
    def body_bytes(self) -> int | None:
        """How long the body is; None where its end will show only when it comes."""
        return len(self.body)

    def take_body(self, sink: BodySink) -> None:
        """Have the body told to `sink`, what is there at once and the rest as it comes."""
        if self.body:
            sink.on_body(self.body)
        sink.on_body_end()

    def pause_body(self) -> None:
        """Take no more of the body for now; `on_body` may come once more."""

    def resume_body(self) -> None:
        """Take it again."""

    @property
    def query(self) -> bytes:
        """What stands behind the question mark."""
        return self.head.query

    @property
    def headers(self) -> Headers:
        """All fields in their order, names in lower case."""
        return self.head.fields

    @property
    def notes(self) -> dict[object, Any]:
        """What was found out about an equal head before."""
        return self.head.notes

    @property
    def caller(self) -> Caller:
        """Whose request it is."""
        caller: Caller = self.head.notes.get(CALLER, ANYBODY)
        return caller

    @property
    def takes_trailers(self) -> bool:
        """Whether the client wants fields behind the body, where that is chunked (RFC 9110, 6.5.1)."""
        return b"te" in self.head.index and b"trailers" in read_tokens(self.head.fields, b"te") and not self.head.http10

    @property
    def http10(self) -> bool:
        """Whether the client speaks HTTP/1.0."""
        return self.head.http10

    @property
    def upgrade(self) -> bytes:
        """What the client would rather speak on this connection, or nothing."""
        return self.head.upgrade

    @overload
    def header(self, name: bytes) -> bytes | None: ...
    @overload
    def header(self, name: bytes, default: bytes) -> bytes: ...
    def header(self, name: bytes, default: bytes | None = None) -> bytes | None:
        """The first value of a header, by lower-case name."""
        return self.head.index.get(name, default)

    def respond(
        self, status: int, content_type: bytes, body: bytes, headers: Iterable[Header] = (), lines: bytes = b""
    ) -> None:
        """Send a whole answer and end."""
        head = self.head
        plain = status == 200 and self.keep_alive and not head.http10 and not self._bodiless and not self.on_status
        if plain and not self.started and not self.gone:
            # Nearly every answer: one piece of bytes and no state in between.
            self.started = self.ended = True
            for header in headers:
                lines += b"%b: %b\r\n" % header
            begin = head_begins.get((200, content_type)) or head_begin(200, content_type)
            with_body = body if len(body) <= _COPIED_BYTES else b""
            self._owner.transport.write(
                b"%b%b%b%bContent-Length: %d\r\n\r\n%b"
                % (begin, lines, self.fixed_lines, date_line(), len(body), with_body)
            )
            if with_body is not body:
                self._owner.transport.write(body)
            self.on_disconnect = self.on_pause = self.on_resume = None
            self._owner.exchange_ended(self)
            return
        self.start(status, content_type, len(body), headers, lines)
        if body:
            self.write(body)
        self.end()

    def start(
        self,
        status: int,
        content_type: bytes,
        length: int | None = None,
        headers: Iterable[Header] = (),
        lines: bytes = b"",
    ) -> None:
        """Begin the answer; the head goes out with the first piece of the body, or at the end.

        `lines` are header lines as HTTP/1.1 writes them, ends included, for who has them so. Without a length the body
        is chunked, or ended by closing for HTTP/1.0.
        """
        if self.started or self.gone:
            return
        self.started = True
        if self.on_status is not None:
            self.on_status(status)
        begin = head_begins.get((status, content_type)) or head_begin(status, content_type)
        for header in headers:
            lines += b"%b: %b\r\n" % header
        framing = self._framing(status, length) + self._connection_line()
        self._head = b"".join((begin, lines, self.fixed_lines, date_line(), framing))

    def _framing(self, status: int, length: int | None) -> bytes:
        if status < 200 or status in _BODILESS:
            self._bodiless = True
            return b""
        if length is not None:
            self._left = length
            return b"Content-Length: %d\r\n" % length
        if self.head.http10:
            self.keep_alive = False
            return b""
        self._chunked = True
        return b"Transfer-Encoding: chunked\r\n"

    def _connection_line(self) -> bytes:
        if not self.keep_alive:
            return b"Connection: close\r\n\r\n"
        return b"Connection: keep-alive\r\n\r\n" if self.head.http10 else b"\r\n"

    def write(self, data: bytes) -> None:
        """Send a piece of the body. More than was promised breaks the connection: it would pass for another answer."""
        if self.gone or self.ended or self._bodiless or not data:
            return
        left = self._left
        if left is not None:
            self._left = left = left - len(data)
            if left < 0:
                self.abort()
                return
        elif self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        head = self._head
        if head is not None:
            self._head = None
            data = head + data
        self._owner.transport.write(data)

    def relay(self) -> Callable[[bytes], None] | None:
        """What writes a chunk that comes with the framing of HTTP/1.1 as it is, for an answer in that framing which has
        begun; None for others. To be called no more once the client is gone."""
        framed = self._chunked and not self._bodiless and self._head is None
        return self._owner.transport.write if framed and not self.gone else None

    def end(self, trailers: Iterable[Header] = ()) -> None:
        """The answer is complete. `trailers` are sent behind a chunked body; only to a client that `takes_trailers`."""
        if self.ended:
            return
        self.ended = True
        if not self.gone:
            if self._left and not self._bodiless:
                # Less than was promised: the client would wait for the rest for ever.
                self.ended = False
                self.abort()
                return
            tail = b""
            if self._chunked and not self._bodiless:
                fields = b"".join([b"%b: %b\r\n" % field for field in trailers])
                tail = b"0\r\n%b\r\n" % fields if fields else b"0\r\n\r\n"
            head = self._head
            if head is not None:
                self._head = None
                tail = head + tail
            if tail:
                self._owner.transport.write(tail)
        self.on_disconnect = self.on_pause = self.on_resume = None
        self._owner.exchange_ended(self)

    def abort(self) -> None:
        """Break the connection: the only honest end for an answer whose framing promised more."""
        if not self.ended:
            self.ended = True
            self.keep_alive = False
            self._owner.transport.abort()

    def reset(self) -> None:
        """Break the connection with an RST, whatever has been sent: what a crashed peer looks like."""
        forget_unsent(self._owner.transport)
        self.abort()

    def take_over(self, headers: Iterable[Header] = (), guest: Guest | None = None) -> tuple[asyncio.Transport, bytes]:
        """Grant the upgrade that the request asks for: answer 101 and leave the connection to the caller.

        Returns the transport and the bytes that came behind the request. The caller gives the transport its own
        protocol (`set_protocol`, then `connection_made`) before it returns to the loop. The listener goes on to look
        after a `guest`; what is none is the caller's alone. Raises `UpgradeNotAsked`.
        """
        if not self.upgrade or self.started or self.gone:
            raise UpgradeNotAsked(f"no upgrade to grant on {self.path.decode('latin-1')[:100]}")
        self.started = self.ended = True
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        head = head_begin(101, b"")
        upgrade = b"Upgrade: %b\r\nConnection: Upgrade\r\n" % self.upgrade
        transport = self._owner.transport
        transport.write(b"%b%b%b%b\r\n" % (head, upgrade, lines, self.fixed_lines))
        return transport, self._owner.hand_over(self, guest)

    def client_gone(self) -> None:
        """Called by the connection when the client has left."""
        if self.gone:
            return
        self.gone = True
        callback, self.on_disconnect = self.on_disconnect, None
        self.on_pause = self.on_resume = None
        if callback is not None and not self.ended:
            callback()
