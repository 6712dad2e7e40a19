"""How the bodies of an HTTP/1.1 connection come in: as fast as they must, and, where a handler takes them as they come,
as fast as it takes them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .body import StreamedExchange
from .exchange import Exchange
from .head import Refusal
from .request_reader import RequestReader

if TYPE_CHECKING:
    from .server import HttpServer


class BodyFlow(asyncio.Protocol):
    """That side of a connection; the rest is `HttpConnection`."""

    __slots__ = (
        "_body_seen_bytes",
        "_incoming",
        "_loop",
        "_read_paused",
        "_reader",
        "_reads_on",
        "_server",
        "_since_s",
        "_window_of",
        "_window_s",
        "transport",
    )

    transport: asyncio.Transport
    _reader: RequestReader

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        #: The exchange under way, while its handler is given the body as it comes.
        self._incoming: StreamedExchange | None = None
        #: Whether requests are being read right now, further up on the stack.
        self._reads_on = False
        self._read_paused = False
        #: Since when the client is idle, in a head, silent in a body, or lingering.
        self._since_s = self._loop.time()
        # What a sweep saw of a body.
        self._window_of: Exchange | None = None
        self._window_s = 0.0
        self._body_seen_bytes = 0

    def _refuse(self, refusal: Refusal) -> None:
        raise NotImplementedError

    def _answer_fault(self, exchange: Exchange) -> None:
        raise NotImplementedError

    def body_comes(self, exchange: StreamedExchange) -> None:
        self._incoming = exchange

    def body_wanted(self) -> None:
        incoming = self._incoming
        if incoming is None or not incoming.takes_body:
            return
        self._since_s = self._loop.time()
        self._window_of = None
        if incoming.continue_due:
            incoming.continue_due = False
            if not self._reader.held_bytes:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # From the loop: the handler is not told of the body while it asks for it.
        self._loop.call_soon(self._pass_on_again)

    def body_unwanted(self) -> None:
        if self._incoming is not None and not self._read_paused and not self.transport.is_closing():
            self._read_paused = True
            self.transport.pause_reading()

    def _pass_on_again(self) -> None:
        incoming = self._incoming
        if incoming is not None and not self._reads_on:
            self._pass_on(incoming)

    def _pass_on(self, incoming: StreamedExchange) -> None:
        """Give the handler what has come of the body."""
        if not incoming.takes_body:
            return
        try:
            piece = self._reader.read_piece()
        except Refusal as refusal:
            self._break_body(incoming, refusal)
            return
        self._since_s = self._loop.time()
        try:
            self._hand_on(incoming, piece)
        except Exception:  # noqa: BLE001  # as in `_serve`
            incoming.body_broke()
            self._answer_fault(incoming)

    def _hand_on(self, incoming: StreamedExchange, piece: bytes) -> None:
        if piece:
            incoming.body_came(piece)
        over = self._reader.pending is None
        if over or incoming.takes_body:
            self._read_freely()
        if over and self._incoming is incoming:
            self._incoming = None
            incoming.body_ended()

    def _break_body(self, incoming: StreamedExchange, refusal: Refusal) -> None:
        """A streamed body that cannot be read on."""
        self._incoming = None
        if incoming.body_broke():
            self._refuse(refusal)
        else:
            self.transport.abort()

    def _leave_body(self, incoming: StreamedExchange) -> None:
        """The answer is whole before the body is: the rest is read past, or the connection closes behind it."""
        self._incoming = None
        self._reader.drop_body()
        self._read_freely()

    def _read_freely(self) -> None:
        if self._read_paused and not self.transport.is_closing():
            self._read_paused = False
            self.transport.resume_reading()

    def _check_body(self, now_s: float) -> None:
        limits, seen = self._server.limits, self._reader.body_bytes
        if now_s - self._since_s > limits.body_idle_s:
            self._give_up(Refusal(408, "the request body did not arrive in time"))
        elif self._window_of is not self._reader.pending:
            self._window_of = self._reader.pending
            self._window_s, self._body_seen_bytes = now_s, seen
        elif now_s - self._window_s >= limits.body_rate_window_s:
            if seen - self._body_seen_bytes < limits.body_min_bytes_per_s * (now_s - self._window_s):
                self._give_up(
                    Refusal(408, f"the request body comes slower than {limits.body_min_bytes_per_s:g} bytes/s")
                )
            self._window_s, self._body_seen_bytes = now_s, seen

    def _give_up(self, refusal: Refusal) -> None:
        """A body that takes too long."""
        if self._incoming is not None:
            self._break_body(self._incoming, refusal)
        elif self._reader.drops:
            self.transport.abort()
        else:
            self._refuse(refusal)
