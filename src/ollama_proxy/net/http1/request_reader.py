"""Cuts one client's bytes into requests, sans-IO: bytes in, whole exchanges out, or a refusal.

One request is read at a time, so what follows it stays raw until its turn: the order of answers, the 100 Continue of
the next one and the bytes behind an upgrade need no care of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, NoReturn

from .body import StreamedExchange
from .chunked import ChunkedReader, ChunkError
from .exchange import Exchange, ExchangeOwner
from .fields import (
    LENGTH_MARKS,
    LONGEST_KNOWN_BYTES,
    BadField,
    Headers,
    index_fields,
    read_field,
    read_tokens,
)
from .head import (
    NO_LINE,
    Refusal,
    RequestHead,
    check_coding,
    check_expectation,
    check_host,
    check_lines,
    check_once,
    good_hosts,
    note_authority,
    read_length,
    read_request_line,
    seen_lengths,
    seen_lines,
)
from .limits import HttpLimits


class KnownHead(NamedTuple):
    """A head cut where the length of its body stands: what lies before and after is the same in the next one."""

    mark: bytes
    before: bytes
    after: bytes
    has_length: bool
    head: RequestHead


#: Whether requests of a method to a path are handed out with their head, the body as it comes.
Streams = Callable[[bytes, bytes], bool]


def stream_nothing(method: bytes, path: bytes) -> bool:
    """For servers whose handlers all want whole bodies."""
    return False


def know_head(raw: bytes, head: RequestHead) -> KnownHead | None:
    """What to compare the next head with; None when it is long, or its meaning hangs on the body's length."""
    if len(raw) > LONGEST_KNOWN_BYTES or b"upgrade" in head.index:
        return None
    if b"content-length" not in head.index:
        return KnownHead(b"\r\n\r\n", raw, b"", has_length=False, head=head)
    for mark in LENGTH_MARKS:
        before, found, rest = raw.partition(mark)
        if found:
            return KnownHead(mark, before, rest.partition(b"\r\n")[2], has_length=True, head=head)
    return None


def _set_connection(head: RequestHead) -> None:
    options = read_tokens(head.fields, b"connection")
    head.keep_alive = b"close" not in options and (not head.http10 or b"keep-alive" in options)
    bodiless = head.index.get(b"content-length", b"0").strip(b"0") == b"" and b"transfer-encoding" not in head.index
    if b"upgrade" in options and bodiless and not head.http10:
        head.upgrade = head.index.get(b"upgrade", b"")


def _expects_word(head: RequestHead) -> bool:
    return not head.http10 and head.index.get(b"expect", b"").lower() == b"100-continue"


class RequestReader:
    """The reading side of one connection."""

    __slots__ = (
        "_at",
        "_body",
        "_chunked",
        "_drops",
        "_known",
        "_left",
        "_limits",
        "_line_from",
        "_owner",
        "_peer",
        "_streams",
        "body_bytes",
        "continue_due",
        "pending",
        "unread",
    )

    def __init__(self, owner: ExchangeOwner, peer: str, limits: HttpLimits, streams: Streams = stream_nothing) -> None:
        self._owner = owner
        self._peer = peer
        self._limits = limits
        self._streams = streams
        #: What has come and may hold more requests; empty when all of it is read.
        self.unread = b""
        self._at = 0
        self._known: KnownHead | None = None
        #: How far the lines of an unfinished head are checked.
        self._line_from = 0
        #: A request whose head is read and whose body is not; after a refusal, what is known of the request.
        self.pending: Exchange | None = None
        #: Whether the client waits for our word before it sends the pending body.
        self.continue_due = False
        self._left = 0
        self._chunked: ChunkedReader | None = None
        #: Whether the pending body is nobody's any more.
        self._drops = False
        #: Of a pending request. One buffer: pieces of a few bytes would cost many times what they hold.
        self._body = bytearray()
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

    def leave(self) -> None:
        """The connection is gone, and nothing is read any more: who knows each other must not keep each other."""
        self.pending = None
        del self._owner

    def take(self, data: bytes) -> Exchange | None:
        """Take the next bytes; the next whole request, or None when more bytes are needed. Raises `Refusal`.

        Nearly always they are a request like the last one, whole and alone: then nothing is kept in between.
        """
        known = self._known
        if known is not None and not self.unread and self.pending is None:
            end = data.find(b"\r\n\r\n")
            before, _, rest = data[: max(end, 0)].partition(known.mark)
            length, _, after = rest.partition(b"\r\n")
            size, limits = len(data) - end - 4, self._limits
            same = before == known.before and after == known.after and size == seen_lengths.get(length)
            if same and known.has_length and end <= limits.head_bytes and size <= limits.body_bytes:
                exchange = Exchange(self._owner, known.head, self._peer)
                exchange.body = data[end + 4 :]
                return exchange
        self.feed(data)
        return self.next()

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
        at = self._at
        end = data.find(b"\r\n\r\n", max(at, self._line_from - 4) if self._line_from else 0)
        if end < 0:
            self._wait_for_head()
            return None
        raw = data[at:end]
        known = self._known
        if known is not None:
            before, _, rest = raw.partition(known.mark)
            if before == known.before:
                length, _, after = rest.partition(b"\r\n")
                same = after == known.after and length.isdigit() is known.has_length
                if same and len(raw) <= self._limits.head_bytes:
                    return self._begin(known.head, length if known.has_length else None, end + 4)
        return self._read_head(raw, end + 4)

    def _read_head(self, raw: bytes, at: int) -> Exchange | None:
        """Read a head that differs from the last one. It ends at an offset, its empty line included."""
        limits = self._limits
        lines = raw.split(b"\r\n")
        line = seen_lines.get(lines[0])
        if line is None:
            if not lines[0]:
                self._skip_lines()
                return self.next()
            line = read_request_line(lines[0], limits)
        if len(lines) > limits.head_fields + 1 or len(raw) > limits.head_bytes:
            self._refuse_lines()
        first = lines.pop(0)
        try:
            fields = list(map(read_field, lines))
        except BadField:
            self._refuse_lines()
        head = RequestHead(line, fields, dict(fields))
        self._check_head(head)
        if b"://" in first:
            note_authority(head, first)
        if b"transfer-encoding" in head.index:
            return self._begin_chunked(head, at)
        self._known = know_head(raw, head)
        return self._begin(head, head.index.get(b"content-length"), at)

    def _check_head(self, head: RequestHead) -> None:
        """Look closer at what is not as in nearly every head: HTTP/1.0, a name twice, a Host not seen before."""
        index = head.index
        plain = len(index) == len(head.fields) and not head.http10
        if not plain or index.get(b"host") not in good_hosts:
            self.pending = Exchange(self._owner, head, self._peer)  # for whoever renders the refusal
            if len(index) < len(head.fields):
                index = head.index = index_fields(head.fields)
                check_once(head.fields)
            check_host(index.get(b"host"), http10=head.http10)
            self.pending = None
        if b"expect" in index and not head.http10:
            self.pending = Exchange(self._owner, head, self._peer)
            check_expectation(head.fields)
            self.pending = None
        if not plain or index.get(b"connection", b"keep-alive") != b"keep-alive":
            _set_connection(head)

    def _begin(self, head: RequestHead, length: bytes | None, at: int) -> Exchange | None:
        """Make the exchange of a head that ends at an offset, and its body of a length if that has come."""
        exchange = Exchange(self._owner, head, self._peer)
        if length is None:
            self._go(at)
            return exchange
        self.pending = exchange
        size = seen_lengths[length]
        stop = at + size
        if stop > len(self.unread) or size > self._limits.body_bytes:
            self._left = size
            if self._streams(head.method, head.path):
                self._go(at)
                return self._begin_stream(head, size)
            read_length(length, self._limits)
            self._go(at)
            return self._begin_body(exchange)
        # The usual case: the body came with its head, and is cut out in one piece.
        exchange.body = self.unread[at:stop]
        self._go(stop)
        self.pending = None
        return exchange

    def refused(self) -> Exchange:
        """The request that was refused, as far as it is known."""
        if self.pending is not None:
            return self.pending
        line, end, _ = self.unread[self._at :].partition(b"\r\n")
        known = seen_lines.get(line, NO_LINE) if end else NO_LINE
        return Exchange(self._owner, RequestHead((*known[:2], *known[1:2], b"", False), [], {}), self._peer)

    def _begin_chunked(self, head: RequestHead, at: int) -> Exchange | None:
        self.pending = exchange = Exchange(self._owner, head, self._peer)
        check_coding(head.fields, http10=head.http10, has_length=b"content-length" in head.index)
        self._chunked = self._make_chunked(head.fields)
        self._go(at)
        if self._streams(head.method, head.path):
            return self._begin_stream(head, None)
        return self._begin_body(exchange)

    def _begin_stream(self, head: RequestHead, length: int | None) -> StreamedExchange:
        """Hand the exchange out; its body is read piece by piece."""
        exchange = StreamedExchange(self._owner, head, self._peer, length)
        exchange.continue_due = _expects_word(head)
        self.pending = exchange
        self._body, self.body_bytes = bytearray(), 0
        self._owner.body_comes(exchange)
        return exchange

    def read_piece(self) -> bytes:
        """The next bytes of a streamed body; behind its end `pending` is None. Raises `Refusal`."""
        if not self.unread:
            return b""
        whole = self._feed_length() if self._chunked is None else self._feed_chunked(self._chunked)
        piece = bytes(self._body)
        self._body.clear()
        if whole:
            self.pending = self._chunked = None
        return piece

    @property
    def drops(self) -> bool:
        """Whether the pending body is dropped as it comes."""
        return self._drops

    def drop_body(self) -> None:
        """Nobody takes the rest of a streamed body: it is read past."""
        self._drops = self.pending is not None

    def _begin_body(self, exchange: Exchange) -> Exchange | None:
        self._body, self.body_bytes = bytearray(), 0
        self.continue_due = _expects_word(exchange.head)
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
        if self._drops:
            self._body.clear()
            if whole:
                self.pending, self._chunked, self._drops = None, None, False
                return self.next()
            return None
        if not whole:
            return None
        exchange, self.pending, self._chunked = self.pending, None, None
        if exchange is not None:
            body, self._body = self._body, bytearray()
            exchange.body = bytes(body)
        return exchange

    def _feed_length(self) -> bool:
        stop = min(self._at + self._left, len(self.unread))
        piece = self.unread[self._at : stop]
        self._go(stop)
        self._body += piece
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
        if self.body_bytes > self._limits.body_bytes and not isinstance(self.pending, StreamedExchange):
            raise Refusal(413, f"the body is larger than {self._limits.body_bytes} bytes")
        for piece in pieces:
            self._body += piece
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
