"""One client's HTTP/1.1 connection: requests in order, one at a time, no task a request.

The reader cuts the bytes; this class serves what it finds, keeps order, times and limits, and ends the connection so
that the client sees the last answer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from ollama_proxy.net.peer import find_peer
from ollama_proxy.net.uptake import Uptake, forget_unsent

from .body_flow import BodyFlow
from .exchange import Exchange
from .head import Refusal
from .request_reader import RequestReader

if TYPE_CHECKING:
    from .server import Guest, HttpServer

_log = logging.getLogger(__name__)


class HttpConnection(BodyFlow):
    """The protocol object of one client."""

    __slots__ = (
        "_active",
        "_in_head",
        "_linger_left_bytes",
        "_lingers",
        "_over",
        "_refused",
        "_uptake",
        "_write_paused",
    )

    def __init__(self, server: HttpServer) -> None:
        super().__init__(server)
        self._active: Exchange | None = None
        #: No request is read any more.
        self._over = False
        self._refused = False
        self._lingers = False
        self._linger_left_bytes = 0
        self._write_paused = False
        self._in_head = False
        #: What sweeps saw of a client that something waits for; None if none ever did.
        self._uptake: Uptake | None = None

    # -- transport callbacks -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        server = self._server
        self._reader = RequestReader(self, find_peer(transport), server.limits, server.streams)
        self.transport.set_write_buffer_limits(high=server.limits.write_high_bytes)
        if len(server.connections) + len(server.guests) >= server.limits.connections or server.draining:
            self._over = True
            self.transport.abort()
            return
        server.connected(self)

    def data_received(self, data: bytes) -> None:
        if self._over:
            self._drop(len(data))
            return
        if self._active is None and not self._write_paused and not self._reads_on:
            self._read_on(data)
            return
        reader = self._reader
        reader.feed(data)
        if self._incoming is not None and not self._reads_on:
            self._pass_on(self._incoming)
        if not self._read_paused and reader.held_bytes > self._server.limits.ahead_bytes:
            self._read_paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._server.disconnected(self)
        active, self._active, self._incoming = self._active, None, None
        if active is not None:
            active.client_gone()
        self._reader.leave()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._active is not None and self._active.on_pause is not None:
            self._active.on_pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._active is None:
            self._loop.call_soon(self._read_again)
        elif self._active.on_resume is not None:
            self._active.on_resume()

    # -- serving -------------------------------------------------------------

    def _read_on(self, data: bytes = b"") -> None:
        """Serve requests, the next bytes first, until one is under way, or nothing whole is left."""
        if self._reads_on or self._over:
            return
        reader = self._reader
        self._reads_on = True
        try:
            exchange = reader.take(data) if data else reader.next()
            while exchange is not None:
                self._serve(exchange)
                if self._incoming is not None:
                    self._pass_on(self._incoming)
                if self._active is not None or self._write_paused or self._over:
                    return
                exchange = reader.next()
            self._wait()
        except Refusal as refusal:
            self._refuse(refusal)
        finally:
            self._reads_on = False

    def _read_again(self) -> None:
        """Go on with what has come, unless something else has begun meanwhile."""
        if self._active is None and not self._write_paused:
            self._read_on()

    def _wait(self) -> None:
        """More bytes are needed."""
        reader = self._reader
        if self._read_paused:
            self._read_paused = False
            self.transport.resume_reading()
        if reader.pending is not None:
            self._since_s = self._loop.time()
            if reader.continue_due:
                reader.continue_due = False
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif reader.held_bytes and not self._in_head:
            self._in_head = True
            self._since_s = self._loop.time()

    def _serve(self, exchange: Exchange) -> None:
        self._active = exchange
        self._in_head = False
        server = self._server
        if server.leaving:
            exchange.keep_alive = False
        try:
            server.handle(exchange)
        except Exception:  # noqa: BLE001  # the root of a request: its failure must not take the connection down
            self._answer_fault(exchange)

    def _answer_fault(self, exchange: Exchange) -> None:
        _log.exception("handler failed for %s", exchange.path.decode("latin-1")[:200])
        if exchange.started:
            exchange.abort()
        else:
            self._server.refuse(exchange, 500, "internal error")

    def exchange_ended(self, exchange: Exchange) -> None:
        if exchange is not self._active:
            return
        self._active = None
        if self._incoming is not None:
            self._leave_body(self._incoming)
        self._since_s = self._loop.time()
        # While we leave, a client that was not told with this answer may already be sending its next request.
        if not exchange.keep_alive or self._server.draining:
            self._close()
        elif self._reader.unread and not self._reads_on:
            # From the loop, not from here: what is answered at once must not nest.
            self._loop.call_soon(self._read_again)

    def hand_over(self, exchange: Exchange, guest: Guest | None) -> bytes:
        self._active = None
        self._over = True
        if guest is not None:
            self._server.welcome(guest)
        self._server.disconnected(self)
        if self._read_paused:
            self._read_paused = False
            self.transport.resume_reading()
        return self._reader.take_rest()

    # -- ends ----------------------------------------------------------------

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that cannot be read on, and close."""
        self._over = self._refused = True
        exchange = self._reader.refused()
        exchange.keep_alive = False
        self._active = exchange
        self._server.refuse(exchange, refusal.status, refusal.message)

    def _close(self) -> None:
        """End the connection behind the last answer.

        A client that is still sending would get a reset for what nobody reads, and lose the answer with it
        (RFC 9112, 9.6): then only our side is closed, and what comes is dropped for a while.
        """
        self._over = True
        transport = self.transport
        if transport.is_closing():
            return
        server = self._server
        lingers = self._refused or self._reader.drops or (server.leaving and not server.draining)
        if not lingers or not transport.can_write_eof():
            transport.close()
            return
        self._lingers = True
        self._linger_left_bytes = server.limits.linger_bytes
        transport.write_eof()
        if self._read_paused:
            self._read_paused = False
            transport.resume_reading()

    def _drop(self, size: int) -> None:
        if self._lingers:
            self._linger_left_bytes -= size
            if self._linger_left_bytes < 0:
                self.transport.abort()

    def announce(self) -> None:
        """Tell the client with an answer that has not begun to take another connection for its next request."""
        if self._active is not None and not self._active.started:
            self._active.keep_alive = False

    def finish_soon(self) -> None:
        """Let the request under way be answered, then close."""
        if self._active is not None:
            self._active.keep_alive = False
        elif self._over or self._reader.pending is None or self._reader.drops:
            self._over = True
            self.transport.close()

    # -- time ----------------------------------------------------------------

    def sweep(self, now_s: float) -> None:
        """Give up on a client that is late with what its state asks of it."""
        limits = self._server.limits
        if self._reader.pending is None:
            self._window_of = None
        if self._write_paused or self.transport.get_write_buffer_size():
            self._check_uptake(now_s)
            return
        if self._uptake is not None:
            self._uptake.caught_up()
        if self._incoming is not None:
            if self._incoming.takes_body:
                self._check_body(now_s)
        elif self._active is not None:
            return
        elif self._lingers:
            if now_s - self._since_s > limits.linger_s:
                self.transport.abort()
        elif self._over:
            if now_s - self._since_s > limits.idle_s:
                self.transport.abort()
        elif self._reader.pending is not None:
            self._check_body(now_s)
        elif now_s - self._since_s > (limits.head_s if self._in_head else limits.idle_s):
            self.transport.abort()

    def _check_uptake(self, now_s: float) -> None:
        """Something waits for the client: it must take it at some pace."""
        if self._uptake is None:
            self._uptake = Uptake()
        if self._uptake.is_too_slow(self.transport, self._server.limits.pace, now_s, growing=not self._write_paused):
            _log.info("a client takes its answer too slowly, and is cut off")
            forget_unsent(self.transport)
            self.transport.abort()
