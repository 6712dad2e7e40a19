"""A port that speaks HTTP/1.1 and HTTP/2: by ALPN where there is TLS, by the first bytes where there is none."""

from __future__ import annotations

import asyncio
from typing import cast

from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.http2.frames import PREFACE
from ollama_proxy.net.http2.server import Http2Server
from ollama_proxy.net.uptake import Pace

#: The method of HTTP/2's preface is no method of HTTP/1.1.
_METHOD = PREFACE[:4]
_FIRST_BYTES_S = 10.0
#: On the way out, how often it is looked whether those that have said nothing have said something.
_LOOK_AGAIN_S = 0.05


class HttpPort:
    """Both servers behind one socket."""

    def __init__(self, http1: HttpServer, http2: Http2Server) -> None:
        self.http1 = http1
        self.http2 = http2
        self.undecided: set[FirstBytes] = set()

    def protocol_factory(self) -> FirstBytes:
        """For `loop.create_server`."""
        return FirstBytes(self)

    def sweep(self, now_s: float) -> None:
        """Look after clients that are late; call about once a second."""
        for protocol in [one for one in self.undecided if now_s - one.since_s > _FIRST_BYTES_S]:
            protocol.transport.abort()
        self.http1.sweep(now_s)
        self.http2.sweep(now_s)

    def expect(self, pace: Pace) -> None:
        """What clients must take of their answers from now on."""
        self.http1.expect(pace)
        self.http2.expect(pace)

    def announce(self, *, followed: bool = False) -> None:
        """Serve on, but let clients know that they should go elsewhere with the next request; `followed` by another
        process, to that."""
        self.http1.announce(followed=followed)
        self.http2.announce(followed=followed)

    def begin_drain(self) -> None:
        """Take nothing new, and close each connection when what it carries has ended."""
        for protocol in list(self.undecided):
            protocol.transport.abort()
        self.http1.begin_drain()
        self.http2.begin_drain()

    async def wait_idle(self) -> None:
        """Wait until no connection is left, not even one that has said nothing yet."""
        while self.undecided or self.http1.connections or self.http1.guests or self.http2.connections:
            await self.http1.wait_idle()
            await self.http2.wait_idle()
            if self.undecided:
                await asyncio.sleep(_LOOK_AGAIN_S)

    def abort(self) -> None:
        """Close what is left."""
        self.http1.abort()
        self.http2.abort()


class FirstBytes(asyncio.Protocol):
    """A connection until it is known what it speaks."""

    transport: asyncio.Transport

    def __init__(self, port: HttpPort) -> None:
        self._port = port
        self._data = b""
        self.since_s = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._become(is_http2=tls.selected_alpn_protocol() == "h2")
        elif len(self._port.undecided) >= self._port.http1.limits.connections:
            self.transport.abort()
        else:
            self._port.undecided.add(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        start = self._data[: len(_METHOD)]
        if start == _METHOD:
            self._become(is_http2=True)
        elif not _METHOD.startswith(start):
            self._become(is_http2=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._port.undecided.discard(self)

    def _become(self, *, is_http2: bool) -> None:
        self._port.undecided.discard(self)
        server = self._port.http2 if is_http2 else self._port.http1
        protocol: asyncio.Protocol = server.protocol_factory()
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        if self._data and not self.transport.is_closing():
            protocol.data_received(self._data)
            self._data = b""
