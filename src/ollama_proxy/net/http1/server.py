"""The HTTP/1.1 server: one protocol object a connection, no task a request.

llhttp (through httptools) parses strictly; what it leaves open by RFC 9112, and our own limits, are checked here.
Requests that arrive while one is being answered wait in order, and reading stops until they are served.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import httptools

from .exchange import Exchange, Headers
from .head import check_head, expects_continue, has_body
from .limits import HttpLimits

_log = logging.getLogger(__name__)

Handler = Callable[[Exchange], None]
#: Pipelined requests that are read ahead; one with a large body stops the reading at once.
_MOST_WAITING = 64
_LARGE_BODY_BYTES = 64 * 1024
#: Renders a refusal that is made before a handler runs: exchange, status, sentence.
Refuser = Callable[[Exchange, int, str], None]


class HttpServer:
    """Settings and live connections of one listening socket."""

    def __init__(self, handle: Handler, refuse: Refuser, limits: HttpLimits | None = None) -> None:
        self.handle = handle
        self.refuse = refuse
        self.limits = limits or HttpLimits()
        self.connections: set[HttpConnection] = set()
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()

    def protocol_factory(self) -> HttpConnection:
        """For `loop.create_server`."""
        return HttpConnection(self)

    def sweep(self, now_s: float) -> None:
        """Close connections that are late with a head or a body, or idle for too long; call about once a second."""
        for connection in [one for one in self.connections if one.is_late(now_s)]:
            connection.close_late()

    async def drain(self, grace_s: float) -> None:
        """Take no new request, wait for running answers, then close what is left."""
        self.draining = True
        for connection in list(self.connections):
            connection.finish_soon()
        if self.connections:
            self.idle.clear()
            try:
                async with asyncio.timeout(grace_s):
                    await self.idle.wait()
            except TimeoutError:
                for connection in list(self.connections):
                    connection.transport.abort()

    def connected(self, connection: HttpConnection) -> None:
        """Book a new connection."""
        self.connections.add(connection)

    def disconnected(self, connection: HttpConnection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if not self.connections:
            self.idle.set()


class HttpConnection(asyncio.Protocol):
    """One client connection."""

    transport: asyncio.Transport

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._parser: Any = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._peer = ""
        self._active: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        self._paused_reading = False
        self._broken = False
        self._in_head = self._began = False
        self._pending_head = 0
        self._write_paused = False
        self._continue_due = False
        self._since_s = self._loop.time()
        self._target: list[bytes] = []
        self._fields: Headers = []
        self._head_size = self._field_count = 0
        self._body: list[bytes] = []
        self._body_size = 0
        self._refusal: tuple[int, str] | None = None

    # -- transport callbacks -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) >= 2 else "local"
        self.transport.set_write_buffer_limits(high=self._limits.write_high_bytes)
        if len(self._server.connections) >= self._limits.connections or self._server.draining:
            self.transport.abort()
            return
        self._server.connected(self)

    def data_received(self, data: bytes) -> None:
        if self._broken:
            return  # read on all the same: a client that leaves must be noticed
        began_in_head, self._began = self._in_head, False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Never granted here; the bytes behind it may be another protocol, so this request is the last.
            if self._refusal is None:
                self._last_request()
        except httptools.HttpParserError as error:
            self._refuse_broken(error)
        self._limit_head(len(data), began_in_head=began_in_head)
        if self._refusal is not None and not self._broken:
            self._refuse_head()

    def _limit_head(self, size: int, *, began_in_head: bool) -> None:
        """The parser gathers a field before it tells of it; a field without end is stopped here."""
        self._pending_head = self._pending_head + size if began_in_head and self._in_head and not self._began else 0
        if self._pending_head > self._limits.head_bytes:
            self._note(431, f"the head is larger than {self._limits.head_bytes} bytes")

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._broken = True
        self._server.disconnected(self)
        self._waiting.clear()
        active, self._active = self._active, None
        if active is not None:
            active.client_gone()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._active is not None and self._active.on_pause is not None:
            self._active.on_pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._active is not None and self._active.on_resume is not None:
            self._active.on_resume()
        elif self._waiting:
            self._loop.call_soon(self._serve_next)

    # -- parser callbacks ----------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head = self._began = True
        self._since_s = self._loop.time()
        self._target = []
        self._fields = []
        self._head_size = self._field_count = 0
        self._body = []
        self._body_size = 0

    def on_url(self, piece: bytes) -> None:
        self._target.append(piece)
        self._head_size += len(piece)
        if self._head_size > self._limits.target_bytes:
            self._note(414, f"the request target is longer than {self._limits.target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        self._field_count += 1
        if self._head_size > self._limits.head_bytes or self._field_count > self._limits.head_fields:
            limits = f"{self._limits.head_bytes} bytes or {self._limits.head_fields} fields"
            self._note(431, f"the head is larger than {limits}")
        elif self._in_head:  # a trailer is no header (RFC 9110, 6.5.1)
            self._fields.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser = self._parser
        exchange = Exchange(self, parser.get_method(), b"".join(self._target), self._fields, self._peer)
        exchange.http10 = parser.get_http_version() == "1.0"
        # An upgrade is never granted, and what follows it may be another protocol: such a request is the last.
        exchange.keep_alive = parser.should_keep_alive() and not parser.should_upgrade() and not self._server.draining
        self._reading = exchange
        if self._refusal is None:
            self._refusal = check_head(exchange, parser.get_http_version(), self._limits)
        if self._refusal is None and parser.should_upgrade() and has_body(exchange):
            # The parser takes the body for the other protocol's bytes.
            self._refusal = (501, "a request with a body cannot ask for an upgrade; send it without the Upgrade header")
        if self._refusal is None and not exchange.http10 and expects_continue(exchange):
            self._continue_due = True
            self._send_continue()

    def on_body(self, data: bytes) -> None:
        self._since_s = self._loop.time()
        self._body_size += len(data)
        if self._body_size > self._limits.body_bytes:
            self._body = []
            self._note(413, f"the body is larger than {self._limits.body_bytes} bytes")
        elif self._refusal is None:
            self._body.append(data)

    def on_message_complete(self) -> None:
        exchange, self._reading = self._reading, None
        if exchange is None or self._refusal is not None or self._broken:
            return
        body = self._body
        exchange.body = body[0] if len(body) == 1 else b"".join(body)
        self._body = []
        self._continue_due = False
        if self._active is None and not self._waiting and not self._write_paused:
            self._serve(exchange)
            return
        self._waiting.append(exchange)
        if len(self._waiting) >= _MOST_WAITING or len(exchange.body) > _LARGE_BODY_BYTES:
            self._pause_reading()

    def _send_continue(self) -> None:
        """Ask for the body, but never in the middle of an earlier answer."""
        if self._continue_due and self._active is None and not self._waiting:
            self._continue_due = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    # -- serving -------------------------------------------------------------

    def _serve(self, exchange: Exchange) -> None:
        self._active = exchange
        try:
            self._server.handle(exchange)
        except Exception:  # noqa: BLE001  # the root of a request: its failure must not take the connection's parser down
            _log.exception("handler failed for %s", exchange.path.decode("latin-1")[:200])
            if exchange.started:
                exchange.abort()
            else:
                self._server.refuse(exchange, 500, "internal error")

    def exchange_ended(self, exchange: Exchange) -> None:
        if exchange is not self._active:
            return
        self._active = None
        self._since_s = self._loop.time()
        if self.transport.is_closing():
            return
        if not exchange.keep_alive or self._server.draining:
            self._broken = True
            self.transport.close()
        elif self._waiting:
            # From the loop, not from here: a long pipeline answered at once must not nest.
            self._loop.call_soon(self._serve_next)
        elif self._broken:
            self._loop.call_soon(self._answer_refusal)
        else:
            self._send_continue()

    def _serve_next(self) -> None:
        if self._write_paused or self.transport.is_closing():
            return
        if self._waiting and self._active is None:
            self._serve(self._waiting.popleft())
        if not self._waiting:
            self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._paused_reading and not self.transport.is_closing():
            self._paused_reading = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused_reading and not self.transport.is_closing():
            self._paused_reading = False
            self.transport.resume_reading()

    # -- refusals ------------------------------------------------------------

    def _note(self, status: int, message: str) -> None:
        if self._refusal is None:
            self._refusal = (status, message)

    def _last_request(self) -> None:
        self._broken = True
        last = self._waiting[-1] if self._waiting else self._active
        if last is not None:
            last.keep_alive = False
        if self._active is None and not self.transport.is_closing():
            self.transport.close()

    def _refuse_broken(self, error: Exception) -> None:
        self._refusal = self._refusal or (400, f"malformed HTTP request: {error}")
        self._refuse_head()

    def _refuse_head(self) -> None:
        """Refuse the request that cannot be read on, after the answers to the sound ones before it, and close."""
        if self._broken or self.transport.is_closing():
            return
        self._broken = True
        if self._active is None and not self._waiting:
            self._answer_refusal()

    def _answer_refusal(self) -> None:
        if self._refusal is None or self.transport.is_closing():
            return
        status, message = self._refusal
        method = self._parser.get_method() or b"GET"
        target = b"".join(self._target) or b"/"
        exchange = self._reading or Exchange(self, method, target, self._fields, self._peer)
        exchange.keep_alive = False
        self._active = exchange
        self._server.refuse(exchange, status, message)

    # -- time ----------------------------------------------------------------

    def is_late(self, now_s: float) -> bool:
        """Whether the client has been silent for longer than its state allows."""
        if self._active is not None:
            return False
        waited_s = now_s - self._since_s
        if self._reading is not None:
            return waited_s > self._limits.body_idle_s
        return waited_s > (self._limits.head_s if self._in_head else self._limits.idle_s)

    def close_late(self) -> None:
        """End a connection whose client is late."""
        if self._reading is not None:
            self._refusal = (408, "the request body did not arrive in time")
            self._refuse_head()
        else:
            self.transport.abort()

    def finish_soon(self) -> None:
        """Let the running answer end, then close."""
        if self._active is None:
            self._broken = True
            self.transport.close()
        else:
            self._active.keep_alive = False
