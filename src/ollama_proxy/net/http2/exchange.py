"""An HTTP request on an HTTP/2 stream and the writer of its answer: what handlers know from HTTP/1.1, framed anew."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ollama_proxy.domain.caller import ANYBODY, Caller
from ollama_proxy.net.credentials import CALLER
from ollama_proxy.net.http1.exchange import BodySink
from ollama_proxy.net.http1.request_reader import Streams, stream_nothing
from ollama_proxy.net.http1.status import date_line

from .connection import Connection
from .errors import ErrorCode
from .head import RequestHead
from .hpack import Field, encode_literal, encode_status
from .stream import Stream

_log = logging.getLogger(__name__)

#: Header fields that are about the connection itself (RFC 9113, 8.2.2).
_OF_HTTP1 = (b"connection", b"upgrade")


@dataclass(frozen=True, slots=True)
class HttpService:
    """Who serves the requests of a connection: whole ones, and those that no handler gets (status and sentence)."""

    handle: Callable[[Any], None]
    refuse: Callable[[Any, int, str], None]
    body_bytes: int = 32 * 1024 * 1024
    #: Which requests, by method and path, are served at their head and take the body as it comes, of any size.
    streams: Streams = stream_nothing


class Http2Exchange(Stream):
    """A request (read-only fields) and the writer of its answer."""

    lingers = True
    http10 = False
    #: Nothing else is spoken on one stream of many.
    upgrade = b""
    keep_alive = True
    #: Set by the front.
    request_id = ""
    #: Header lines as HTTP/1.1 writes them, ends included, that are sent with every answer.
    fixed_lines = b""
    started = False
    ended = False
    gone = False
    body = b""
    on_disconnect: Callable[[], None] | None = None
    on_pause: Callable[[], None] | None = None
    on_resume: Callable[[], None] | None = None
    #: Told the status of the answer, once.
    on_status: Callable[[int], None] | None = None
    _head_block: bytes | None = None
    _bodiless = False
    _left: int | None = None
    #: Of a body that is taken as it comes.
    _streams = False
    _sink: BodySink | None = None
    _body_paused = False
    _body_whole = False

    def __init__(self, connection: Connection, stream_id: int, head: RequestHead, service: HttpService) -> None:
        super().__init__(connection, stream_id, head)
        self._service = service
        #: One buffer: pieces of a few bytes would cost many times what they hold.
        self._gathered = bytearray()
        self.method = head.method
        self.target = head.path
        self.path, _, self.query = head.path.partition(b"?")
        self.peer = connection.peer
        self.notes = head.notes
        self._bodiless = head.method == b"HEAD"
        self.headers: list[Field] = list(head.fields)
        if head.authority and self.header(b"host") is None:
            self.headers.insert(0, (b"host", head.authority))

    @property
    def caller(self) -> Caller:
        """Whose request it is."""
        caller: Caller = self.notes.get(CALLER, ANYBODY)
        return caller

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    # -- the request -------------------------------------------------------------

    def opened(self) -> None:
        limits = self.connection.limits
        if self.head.list_bytes > limits.list_bytes:
            self._service.refuse(self, 431, f"the head is larger than {limits.list_bytes} bytes")
        elif self.method == b"CONNECT":
            self._service.refuse(self, 405, "CONNECT is not served")
        elif not self.remote_closed and self._service.streams(self.method, self.path):
            self._streams = self.drains = True
            self._hold_body()
            self._serve()
        elif (self.content_left or 0) > self._service.body_bytes:
            self._refuse_size()
        elif self.header(b"expect") == b"100-continue":
            self.send_headers(encode_status(100))

    def received(self, data: bytes, *, ended: bool) -> None:
        if self.ended:
            return
        gathered = self._gathered
        if self._streams:
            self._body_whole = ended
            gathered += data
            self._guard(self._pass_on)
            return
        if len(gathered) + len(data) > self._service.body_bytes:
            self._refuse_size()
        elif not ended:
            gathered += data
        else:
            self.body = bytes(gathered + data) if gathered else data
            self._gathered = bytearray()
            self._serve()

    # -- a body that is taken as it comes --------------------------------------------

    @property
    def body_bytes(self) -> int | None:
        """How long the body is; None where its end will show only when it comes."""
        return self.head.content_length if self._streams else len(self.body)

    def take_body(self, sink: BodySink) -> None:
        """Have the body told to `sink`, what is there at once and the rest as it comes."""
        if not self._streams:
            if self.body:
                sink.on_body(self.body)
            sink.on_body_end()
            return
        self._sink = sink
        if self.header(b"expect") == b"100-continue" and not self._gathered and not self.remote_closed:
            self.send_headers(encode_status(100))
        self._go_on()

    def pause_body(self) -> None:
        """Take no more of the body for now; the client's window stays as it is."""
        if self._streams and not self._body_paused:
            self._body_paused = True
            self._hold_body()

    def resume_body(self) -> None:
        """Take it again."""
        if self._body_paused:
            self._body_paused = False
            self._go_on()

    def _hold_body(self) -> None:
        """The client is not to blame for a body that does not come."""
        self.holds_window = True
        self.awaits_body = False

    def _go_on(self) -> None:
        self._pass_on()
        if self._sink is not None and not self._body_paused:
            self.holds_window = False
            self.awaits_body = True
            self.progress_s = self.connection.clock()
            self.open_window()

    def _pass_on(self) -> None:
        """Give the handler what has come."""
        sink = self._sink
        if sink is None or self._body_paused:
            return
        piece, self._gathered = bytes(self._gathered), bytearray()
        if piece:
            sink.on_body(piece)
        if self._body_whole and self._sink is not None:
            self._sink = None
            sink.on_body_end()

    def _refuse_size(self) -> None:
        self._gathered = bytearray()
        self._service.refuse(self, 413, f"the body is larger than {self._service.body_bytes} bytes")

    def _serve(self) -> None:
        self._guard(lambda: self._service.handle(self))

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # noqa: BLE001  # the root of a request: its failure must not take the connection down
            _log.exception("handler failed for %s", self.path.decode("latin-1")[:200])
            if self.started:
                self.abort()
            else:
                self._service.refuse(self, 500, "internal error")

    # -- the answer ----------------------------------------------------------------

    def respond(
        self, status: int, content_type: bytes, body: bytes, headers: Iterable[Field] = (), lines: bytes = b""
    ) -> None:
        """Send a whole answer and end."""
        self.start(status, content_type, len(body), headers, lines)
        if body:
            self.write(body)
        self.end()

    def start(
        self,
        status: int,
        content_type: bytes,
        length: int | None = None,
        headers: Iterable[Field] = (),
        lines: bytes = b"",
    ) -> None:
        """Begin the answer; the head goes out with the first piece of the body, or at the end.

        `lines` are header lines as HTTP/1.1 writes them, ends included.
        """
        if self.started or self.gone:
            return
        self.started = True
        if self.on_status is not None:
            self.on_status(status)
        block = [encode_status(status)]
        if content_type:
            block.append(encode_literal(b"content-type", content_type))
        block += [encode_literal(name.lower(), value) for name, value in headers if name.lower() not in _OF_HTTP1]
        for line in (lines + self.fixed_lines).split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            block.append(encode_literal(name.lower(), value))
        block.append(encode_literal(b"date", date_line()[6:-2]))
        if status in (204, 304):
            self._bodiless = True
        elif length is not None:
            self._left = length
            block.append(encode_literal(b"content-length", b"%d" % length))
        self._head_block = b"".join(block)

    def write(self, data: bytes) -> None:
        """Send a piece of the body. More than was promised breaks the stream."""
        if self.gone or self.ended or self._bodiless or not data:
            return
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                self.abort()
                return
        if self._head_block is not None:
            self._send_head(ended=False)
        self.send_data(data)

    def _send_head(self, *, ended: bool) -> None:
        block, self._head_block = self._head_block, None
        self.send_headers(block or b"", ended=ended)

    def relay(self) -> None:
        """HTTP/2 has no chunks (see `Exchange.relay`)."""

    @property
    def takes_trailers(self) -> bool:
        """Whether the client wants fields behind the body; the one thing that TE may say here (RFC 9113, 8.2.2)."""
        return self.header(b"te") == b"trailers"

    def end(self, trailers: Iterable[Field] = ()) -> None:
        """The answer is complete. `trailers` are sent behind a body that came in pieces; only to a client that
        `takes_trailers`."""
        if self.ended:
            return
        if self._left and not self._bodiless:
            # Less than was promised: the client would wait for the rest for ever.
            self.abort()
            return
        self.ended = True
        self._sink = None
        self.on_disconnect = self.on_pause = self.on_resume = None
        if self.gone:
            return
        if self._head_block is not None:
            self._send_head(ended=True)
        elif block := b"".join([encode_literal(name.lower(), value) for name, value in trailers]):
            self.send_trailers(block)
        else:
            self.send_data(b"", ended=True)
        if self._streams:
            self.holds_window = False
            self._gathered = bytearray()
            self.open_window()

    def abort(self) -> None:
        """Break the answer off, visibly."""
        if not self.ended:
            self.ended = True
            self._sink = None
            self.on_disconnect = self.on_pause = self.on_resume = None
            self.reset(ErrorCode.INTERNAL_ERROR)

    # -- the client ----------------------------------------------------------------

    def lost(self) -> None:
        self.gone = True
        self._sink = None
        self._gathered = bytearray()
        callback, self.on_disconnect = self.on_disconnect, None
        self.on_pause = self.on_resume = None
        if callback is not None and not self.ended:
            callback()

    def pause(self) -> None:
        if self.on_pause is not None:
            self.on_pause()

    def resume(self) -> None:
        if self.on_resume is not None:
            self.on_resume()
