"""Cuts one client's bytes into requests, sans-IO: bytes in, whole exchanges out, or a refusal.

One request is read at a time, so what follows it stays raw until its turn: the order of answers, the 100 Continue of
the next one and the bytes behind an upgrade need no care of their own.
"""

from __future__ import annotations

from typing import NoReturn

from .chunked import ChunkedReader, ChunkError
from .exchange import Exchange, ExchangeOwner
from .fields import BadField, Headers, index_fields, read_field, read_tokens
from .head import (
    Refusal,
    RequestLine,
    check_coding,
    check_host,
    check_lines,
    check_once,
    good_hosts,
    read_length,
    read_request_line,
    seen_lines,
)
from .limits import HttpLimits


class RequestReader:
    """The reading side of one connection."""

    __slots__ = (
        "_at",
        "_body",
        "_chunked",
        "_left",
        "_limits",
        "_line_from",
        "_owner",
        "_peer",
        "body_bytes",
        "continue_due",
        "pending",
        "unread",
    )

    def __init__(self, owner: ExchangeOwner, peer: str, limits: HttpLimits) -> None:
        self._owner = owner
        self._peer = peer
        self._limits = limits
        #: What has come and may hold more requests; empty when all of it is read.
        self.unread = b""
        self._at = 0
        #: How far the lines of an unfinished head are checked.
        self._line_from = 0
        #: A request whose head is read and whose body is not; after a refusal, what is known of the request.
        self.pending: Exchange | None = None
        #: Whether the client waits for our word before it sends the pending body.
        self.continue_due = False
        self._left = 0
        self._chunked: ChunkedReader | None = None
        self._body: list[bytes] = []
        self.body_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes that have come and are not read yet."""
        return len(self.unread) - self._at

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self.unread:
            at = self._at
            data = self.unread[at:] + data
            self._line_from -= at
            self._at = 0
        self.unread = data

    def take_rest(self) -> bytes:
        """Give away what is not read: it belongs to another protocol."""
        rest = self.unread[self._at :]
        self._go(len(self.unread))
        return rest

    def _go(self, at: int) -> None:
        """What lies before is read."""
        if at == len(self.unread):
            self.unread = b""
            at = 0
        self._at = self._line_from = at

    def next(self) -> Exchange | None:
        """The next whole request, or None when more bytes are needed. Raises `Refusal`."""
        if self.pending is not None:
            return self._next_of_body()
        data = self.unread
        if not data:
            return None
        at, limits = self._at, self._limits
        end = data.find(b"\r\n\r\n", max(at, self._line_from - 4) if self._line_from else 0)
        if end < 0:
            self._wait_for_head()
            return None
        lines = data[at:end].split(b"\r\n")
        line = seen_lines.get(lines[0])
        if line is None:
            if not lines[0]:
                self._skip_lines()
                return self.next()
            line = read_request_line(lines[0], limits)
        if len(lines) > limits.head_fields + 1 or end - at > limits.head_bytes:
            self._refuse_lines()
        del lines[0]
        try:
            fields = list(map(read_field, lines))
        except BadField:
            self._refuse_lines()
        return self._begin(line, fields, end + 4)

    def _begin(self, line: RequestLine, fields: Headers, at: int) -> Exchange | None:
        """Make the exchange of a head that ends at an offset, and its body if that has come."""
        index = dict(fields)
        exchange = Exchange(self._owner, line[0], line[1], fields, self._peer, index)
        if line[4] or len(index) < len(fields) or index.get(b"host") not in good_hosts:
            index = self._check_names(exchange, http10=line[4])
        connection = index.get(b"connection")
        if connection is not None and connection != b"keep-alive":
            self._set_connection(exchange)
        length = index.get(b"content-length")
        if b"transfer-encoding" in index:
            self._begin_chunked(exchange, has_length=length is not None)
        elif length is not None:
            self.pending = exchange
            size = read_length(length, self._limits)
            if at + size > len(self.unread):
                self._left = size
            else:
                # The usual case: the body came with its head, and is cut out in one piece.
                exchange.body = self.unread[at : at + size]
                at += size
                self.pending = None
        self._go(at)
        return exchange if self.pending is None else self._begin_body(exchange)

    def refused(self) -> Exchange:
        """The request that was refused, as far as it is known."""
        if self.pending is not None:
            return self.pending
        line, end, _ = self.unread[self._at :].partition(b"\r\n")
        known = seen_lines.get(line) if end else None
        method, target = known[:2] if known else (b"GET", b"/")
        return Exchange(self._owner, method, target, [], self._peer)

    def _set_connection(self, exchange: Exchange) -> None:
        options = read_tokens(exchange.headers, b"connection")
        exchange.keep_alive = b"close" not in options and (not exchange.http10 or b"keep-alive" in options)
        bodiless = exchange.header(b"content-length", b"0").strip(b"0") == b""
        if b"upgrade" in options and bodiless and not exchange.http10 and not exchange.header(b"transfer-encoding"):
            exchange.upgrade = exchange.header(b"upgrade", b"")

    def _check_names(self, exchange: Exchange, *, http10: bool) -> dict[bytes, bytes]:
        """What is not as in nearly every request: HTTP/1.0, a name twice, a Host that was not seen before."""
        self.pending = exchange  # for whoever renders the refusal
        index = exchange.index = index_fields(exchange.headers)
        if len(index) < len(exchange.headers):
            check_once(exchange.headers)
        if http10:
            exchange.http10 = True
            exchange.keep_alive = False
        check_host(index.get(b"host"), http10=http10)
        if b"connection" in index:
            self._set_connection(exchange)
        self.pending = None
        return index

    def _begin_chunked(self, exchange: Exchange, *, has_length: bool) -> None:
        self.pending = exchange
        check_coding(exchange.headers, http10=exchange.http10, has_length=has_length)
        self._chunked = self._make_chunked(exchange.headers)

    def _begin_body(self, exchange: Exchange) -> Exchange | None:
        self._body, self.body_bytes = [], 0
        self.continue_due = not exchange.http10 and exchange.header(b"expect", b"").lower() == b"100-continue"
        return self._next_of_body()

    def _make_chunked(self, fields: Headers) -> ChunkedReader:
        """Trailers may use what the head has left of its limits."""
        limits = self._limits
        used_bytes = sum(len(name) + len(value) for name, value in fields)
        return ChunkedReader(
            extension_bytes=limits.extension_bytes,
            trailer_bytes=max(0, limits.head_bytes - used_bytes),
            fields=limits.head_fields - len(fields),
        )

    def _next_of_body(self) -> Exchange | None:
        """Read on in the body of the pending request."""
        if not self.unread:
            return None
        whole = self._feed_length() if self._chunked is None else self._feed_chunked(self._chunked)
        if not whole:
            return None
        exchange, self.pending, self._chunked = self.pending, None, None
        if exchange is not None:
            body, self._body = self._body, []
            exchange.body = body[0] if len(body) == 1 else b"".join(body)
        return exchange

    def _feed_length(self) -> bool:
        stop = min(self._at + self._left, len(self.unread))
        piece = self.unread[self._at : stop]
        self._go(stop)
        self._body.append(piece)
        self._left -= len(piece)
        self.body_bytes += len(piece)
        return not self._left

    def _feed_chunked(self, chunked: ChunkedReader) -> bool:
        pieces: list[bytes] = []
        try:
            self._go(chunked.feed(self.unread, self._at, pieces))
        except ChunkError as error:
            raise Refusal(error.status, f"malformed HTTP request: {error}") from None
        finally:
            self.body_bytes += sum(map(len, pieces))
        if self.body_bytes > self._limits.body_bytes:
            raise Refusal(413, f"the body is larger than {self._limits.body_bytes} bytes")
        self._body += pieces
        return chunked.done

    def _wait_for_head(self) -> None:
        """Refuse what can be seen to be wrong before the head is whole."""
        self._skip_lines()
        if self.unread:
            self._line_from = check_lines(self.unread, self._at, max(self._line_from, self._at), self._limits)

    def _skip_lines(self) -> None:
        """RFC 9112, 2.2: an empty line before a request is nothing."""
        at = self._at
        while self.unread.startswith(b"\r\n", at):
            at += 2
        if at > self._at:
            self._go(at)

    def _refuse_lines(self) -> NoReturn:
        """Find the first fault, in the order of bytes, of a head that has one."""
        check_lines(self.unread, self._at, self._at, self._limits)
        raise Refusal(400, "malformed HTTP request")
