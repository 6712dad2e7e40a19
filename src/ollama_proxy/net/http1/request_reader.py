"""Cuts one client's bytes into requests, sans-IO: bytes in, whole exchanges out, or a refusal.

One request is read at a time, so what follows it stays raw until its turn: the order of answers, the 100 Continue of
the next one and the bytes behind an upgrade need no care of their own.
"""

from __future__ import annotations

from .chunked import ChunkedReader, ChunkError
from .exchange import Exchange, ExchangeOwner
from .fields import BadField, Headers, index_fields, read_fields
from .head import (
    Refusal,
    RequestLine,
    check_coding,
    check_host,
    check_lines,
    check_once,
    good_hosts,
    read_connection,
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
        "_data",
        "_left",
        "_limits",
        "_line_from",
        "_owner",
        "_peer",
        "body_bytes",
        "continue_due",
        "pending",
    )

    def __init__(self, owner: ExchangeOwner, peer: str, limits: HttpLimits) -> None:
        self._owner = owner
        self._peer = peer
        self._limits = limits
        self._data = b""
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
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        at, held = self._at, self._data
        if at < len(held):
            self._data = held[at:] + data
            self._line_from -= at
        else:
            self._data = data
            self._line_from = 0
        self._at = 0

    def take_rest(self) -> bytes:
        """Give away what is not read: it belongs to another protocol."""
        rest, self._data, self._at = self._data[self._at :], b"", 0
        return rest

    def next(self) -> Exchange | None:
        """The next whole request, or None when more bytes are needed. Raises `Refusal`."""
        if self.pending is not None:
            return self._next_of_body()
        data, at = self._data, self._at
        if at == len(data):
            return None
        end = data.find(b"\r\n\r\n", max(at, self._line_from - 4))
        if end < 0:
            self._wait_for_head()
            return None
        limits = self._limits
        lines = data[at:end].split(b"\r\n")
        line = seen_lines.get(lines[0])
        if line is None:
            if not lines[0]:
                return self._skip_line()
            line = read_request_line(lines[0], limits)
        if len(lines) > limits.head_fields + 1 or end - at > limits.head_bytes:
            self._refuse_lines()
        del lines[0]
        try:
            fields = read_fields(lines)
        except BadField:
            self._refuse_lines()
            return None
        self._at = end + 4
        return self._begin(line, fields)

    def _begin(self, line: RequestLine, fields: Headers) -> Exchange | None:
        """Make the exchange of a head, and its body if that has come."""
        index = index_fields(fields)
        exchange = Exchange(self._owner, line[0], line[1], fields, self._peer, index)
        exchange.http10 = http10 = line[4]
        unique = len(index) == len(fields)
        if not unique or index.get(b"host") not in good_hosts:
            self._check_names(exchange, index, unique=unique)
        known = index.get
        connection = known(b"connection")
        if connection is not None:
            options = read_connection(fields, connection, unique=unique)
            exchange.keep_alive = b"close" not in options and (not http10 or b"keep-alive" in options)
        elif http10:
            exchange.keep_alive = False
        length, coding = known(b"content-length"), known(b"transfer-encoding")
        if coding is not None or length is not None:
            return self._begin_body(exchange, length, coding)
        if connection is not None and b"upgrade" in options and not http10:
            exchange.upgrade = known(b"upgrade") or b""
        self._line_from = self._at
        return exchange

    def _check_names(self, exchange: Exchange, index: dict[bytes, bytes], *, unique: bool) -> None:
        self.pending = exchange  # for whoever renders the refusal
        if not unique:
            check_once(exchange.headers)
        check_host(index.get(b"host"), http10=exchange.http10)
        self.pending = None

    def _begin_body(self, exchange: Exchange, length: bytes | None, coding: bytes | None) -> Exchange | None:
        limits = self._limits
        self.pending = exchange
        if coding is not None:
            check_coding(exchange.headers, http10=exchange.http10, has_length=length is not None)
            self._chunked = ChunkedReader(
                extension_bytes=limits.extension_bytes,
                trailer_bytes=max(
                    0, limits.head_bytes - sum(len(name) + len(value) for name, value in exchange.headers)
                ),
                fields=limits.head_fields - len(exchange.headers),
            )
        elif length is not None:
            self._left = read_length(length, limits)
            stop = self._at + self._left
            if stop <= len(self._data):
                # The usual case: the body came with its head, and is cut out in one piece.
                exchange.body = self._data[self._at : stop]
                self._at = self._line_from = stop
                self.pending = None
                return exchange
        self._body, self.body_bytes = [], 0
        self.continue_due = not exchange.http10 and exchange.header(b"expect", b"").lower() == b"100-continue"
        return self._next_of_body()

    def _next_of_body(self) -> Exchange | None:
        """Read on in the body of the pending request."""
        if self._at == len(self._data):
            return None
        whole = self._feed_length() if self._chunked is None else self._feed_chunked(self._chunked)
        if not whole:
            return None
        exchange, self.pending, self._chunked = self.pending, None, None
        if exchange is not None:
            body, self._body = self._body, []
            exchange.body = body[0] if len(body) == 1 else b"".join(body)
        self._line_from = self._at
        return exchange

    def _feed_length(self) -> bool:
        piece = self._data[self._at : self._at + self._left]
        self._body.append(piece)
        self._at += len(piece)
        self._left -= len(piece)
        self.body_bytes += len(piece)
        return not self._left

    def _feed_chunked(self, chunked: ChunkedReader) -> bool:
        pieces: list[bytes] = []
        try:
            self._at = chunked.feed(self._data, self._at, pieces)
        except ChunkError as error:
            raise Refusal(error.status, f"malformed HTTP request: {error}") from None
        finally:
            self.body_bytes += sum(map(len, pieces))
        if self.body_bytes > self._limits.body_bytes:
            raise Refusal(413, f"the body is larger than {self._limits.body_bytes} bytes")
        self._body += pieces
        return chunked.done

    def _skip_line(self) -> Exchange | None:
        """RFC 9112, 2.2: an empty line before a request is nothing."""
        self._at += 2
        self._line_from = self._at
        return self.next()

    def _wait_for_head(self) -> None:
        """Refuse what can be seen to be wrong before the head is whole."""
        data = self._data
        while data.startswith(b"\r\n", self._at):
            self._at += 2
        self._line_from = max(self._line_from, self._at)
        self._line_from = check_lines(data, self._at, self._line_from, self._limits)

    def _refuse_lines(self) -> None:
        """Find the first fault, in the order of bytes, of a head that has one."""
        check_lines(self._data, self._at, self._at, self._limits)
        raise Refusal(400, "malformed HTTP request")
