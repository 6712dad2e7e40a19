"""HTTP/2 on asyncio: the protocol object that feeds the core and writes what it has to say, once a loop turn."""

from __future__ import annotations

import asyncio
from typing import cast

import msgspec

from ollama_proxy.net.peer import find_peer
from ollama_proxy.net.uptake import Pace, forget_unsent

from .connection import Connection, OpenStream
from .limits import Http2Limits


class Http2Server:
    """Settings and live connections of one listening socket."""

    def __init__(self, open_stream: OpenStream, limits: Http2Limits | None = None) -> None:
        self.open_stream = open_stream
        self.limits = limits or Http2Limits()
        self.connections: set[Http2Protocol] = set()
        self.draining = False
        self._idle = asyncio.Event()

    def protocol_factory(self) -> Http2Protocol:
        """For `loop.create_server`."""
        return Http2Protocol(self)

    def sweep(self, now_s: float) -> None:
        """Look after clients that are late or read nothing; call about once a second."""
        for protocol in list(self.connections):
            protocol.sweep(now_s)

    def expect(self, pace: Pace) -> None:
        """What clients must take of their answers from now on; those of open connections stay as they were."""
        self.limits = msgspec.structs.replace(self.limits, pace=pace)

    def announce(self, *, followed: bool = False) -> None:
        """Serve on. Clients that find a successor under the same address are sent there now: GOAWAY loses no call."""
        if followed:
            self.begin_drain()

    def begin_drain(self) -> None:
        """Take no new call, and close each connection when its calls have ended."""
        self.draining = True
        for protocol in list(self.connections):
            protocol.core.liveness.drain()

    async def wait_idle(self) -> None:
        """Wait until no connection is left."""
        while self.connections:
            self._idle.clear()
            await self._idle.wait()

    def abort(self) -> None:
        """Close what is left."""
        for protocol in list(self.connections):
            protocol.core.close()
            protocol.transport.abort()

    def disconnected(self, protocol: Http2Protocol) -> None:
        """Forget a connection."""
        self.connections.discard(protocol)
        if not self.connections:
            self._idle.set()


class Http2Protocol(asyncio.Protocol):
    """One client connection."""

    transport: asyncio.Transport
    _closed_s: float | None = None

    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self.core = Connection(server.open_stream, self._loop.time, server.limits, self._schedule)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        server, core = self._server, self.core
        if len(server.connections) >= server.limits.connections:
            self.transport.abort()
            return
        if server.draining:
            core.liveness.drain()
        core.peer = find_peer(transport)
        core.secure = transport.get_extra_info("ssl_object") is not None
        server.connections.add(self)
        self._flush()

    def sweep(self, now_s: float) -> None:
        """Look after a client that is late; one that does not read our last words is cut off."""
        if self._closed_s is None:
            self.core.liveness.sweep(now_s)
        elif now_s - self._closed_s > self._server.limits.stall_s:
            forget_unsent(self.transport)
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        core = self.core
        core.awake = True
        core.receive(data)
        self._flush()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.core.awake = True
        self.core.close()
        self.core.out.clear()
        self._server.disconnected(self)

    def pause_writing(self) -> None:
        self.core.pause_writing()

    def resume_writing(self) -> None:
        self.core.resume_writing()

    def _schedule(self) -> None:
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        core = self.core
        core.awake = False
        out = core.out
        if out:
            if not self.transport.is_closing():
                self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
        if core.closed and self._closed_s is None:
            self._closed_s = self._loop.time()
            self.transport.close()
