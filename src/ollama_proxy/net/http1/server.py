"""The HTTP/1.1 server: what all connections of a listening socket share, their time limits, and draining."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from ollama_proxy.net.uptake import Pace

from .connection import HttpConnection
from .exchange import Exchange
from .limits import HttpLimits
from .request_reader import Streams, stream_nothing

Handler = Callable[[Exchange], None]
#: Renders a refusal that is made before a handler runs: exchange, status, sentence.
Refuser = Callable[[Exchange, int, str], None]


class Guest(Protocol):
    """A connection that speaks another protocol now, and is looked after by the listener it came through."""

    transport: asyncio.Transport
    #: Set by the listener; to be called when the connection is lost.
    on_lost: Callable[[], None]

    def sweep(self, now_s: float) -> None:
        """Give up on a client that is late."""

    def finish_soon(self) -> None:
        """Begin nothing new, let what runs end, then close."""

    def leave(self) -> None:
        """Close now, with a word to the client."""


class HttpServer:
    """Settings and live connections of one listening socket."""

    def __init__(
        self,
        handle: Handler,
        refuse: Refuser,
        limits: HttpLimits | None = None,
        streams: Streams = stream_nothing,
    ) -> None:
        """`streams` says, by method and path, which exchanges are handed out before their body is there."""
        self.handle = handle
        self.refuse = refuse
        self.streams = streams
        self.limits = limits or HttpLimits()
        self.connections: set[HttpConnection] = set()
        self.guests: set[Guest] = set()
        #: Answers that begin from now on end their connections.
        self.leaving = False
        #: And nobody new is let in.
        self.draining = False
        self.idle = asyncio.Event()
        self.idle.set()

    def protocol_factory(self) -> HttpConnection:
        """For `loop.create_server` and `loop.create_unix_server`."""
        return HttpConnection(self)

    def sweep(self, now_s: float) -> None:
        """End connections whose clients are late or do not read; call about once a second with the loop's time."""
        for connection in list(self.connections):
            connection.sweep(now_s)
        for guest in list(self.guests):
            guest.sweep(now_s)

    def expect(self, pace: Pace) -> None:
        """What clients must take of their answers from now on."""
        self.limits = msgspec.structs.replace(self.limits, pace=pace)

    def announce(self, *, followed: bool = False) -> None:
        """Serve on, but tell each client with its answer to take another connection for the next request; `followed`
        or not."""
        self.leaving = True
        for connection in self.connections:
            connection.announce()

    def begin_drain(self) -> None:
        """Take no new request, and close each connection when its answer has ended."""
        self.leaving = self.draining = True
        for connection in list(self.connections):
            connection.finish_soon()
        for guest in list(self.guests):
            guest.finish_soon()

    async def wait_idle(self) -> None:
        """Wait until no connection is left."""
        while self.connections or self.guests:
            self.idle.clear()
            await self.idle.wait()

    def abort(self) -> None:
        """Close what is left."""
        for guest in list(self.guests):
            guest.leave()
        for connection in list(self.connections):
            connection.transport.abort()

    def connected(self, connection: HttpConnection) -> None:
        """Book a new connection."""
        self.connections.add(connection)

    def disconnected(self, connection: HttpConnection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        self._check_idle()

    def welcome(self, guest: Guest) -> None:
        """Look after a connection that has changed its protocol."""
        self.guests.add(guest)
        guest.on_lost = partial(self._lost, guest)

    def _lost(self, guest: Guest) -> None:
        self.guests.discard(guest)
        self._check_idle()

    def _check_idle(self) -> None:
        if not self.connections and not self.guests:
            self.idle.set()
