"""A proxy for bytes that goes wrong on command, to put between any two programs that speak over TCP."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from functools import partial
from typing import Any, Literal, cast

import msgspec

from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.lab.lane import Lane
from ollama_proxy.lab.wire_fault import NO_WIRE_FAULT, WireFault, read_wire_fault
from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.task import spawn

Way = Literal["up", "down"]

_JSON = b"application/json"


class FaultProxy:
    """Listens on one port, dials one upstream for each connection, and obeys its control port."""

    def __init__(self, upstream: tuple[str, int], seed: int = 1) -> None:
        self._loop = asyncio.get_running_loop()
        self.upstream = upstream
        self.seed = seed
        self.faults: dict[Way, WireFault] = {"up": NO_WIRE_FAULT, "down": NO_WIRE_FAULT}
        self.pairs: set[Pair] = set()
        self.counts = {"connections": 0, "struck": 0, "not_dialled": 0, "up_bytes": 0, "down_bytes": 0}
        self.port = self.control_port = 0
        self._host = ""
        self._listener: asyncio.Server | None = None
        self._control: asyncio.Server | None = None
        self._http = HttpServer(self._answer, _refuse)

    async def start(self, host: str, port: int, control_port: int) -> None:
        """Listen on both ports; 0 takes any free one. Raises `OSError`."""
        self._host = host
        self._control = await self._loop.create_server(self._http.protocol_factory, host, control_port)
        self.control_port = self._control.sockets[0].getsockname()[1]
        self.port = port
        await self._listen()

    async def stop(self) -> None:
        """Stop listening and drop every connection."""
        for server in (self._listener, self._control):
            if server is not None:
                server.close()
        self._listener = self._control = None
        for pair in list(self.pairs):
            pair.close()
        await drain(self._http, 0.1)

    async def set_fault(self, fault: WireFault) -> None:
        """Switch a fault of its direction, of both by default; it strikes connections that are open, too."""
        for way in self.faults:
            if fault.direction in ("both", way):
                self.faults[way] = fault
        if any(one.end == "refuse" for one in self.faults.values()):
            if self._listener is not None:
                self._listener.close()
                self._listener = None
        elif self._listener is None:
            await self._listen()
        for pair in list(self.pairs):
            pair.up.change(self.faults["up"])
            pair.down.change(self.faults["down"])

    def describe(self) -> dict[str, Any]:
        """What the control port says."""
        return {
            "listen": f"{self._host}:{self.port}",
            "listening": self._listener is not None,
            "upstream": "{}:{}".format(*self.upstream),
            "seed": self.seed,
            "open": len(self.pairs),
            **self.counts,
            "faults": {way: msgspec.to_builtins(fault) for way, fault in self.faults.items()},
        }

    async def _listen(self) -> None:
        # While it refuses, nobody listens; the port it had is asked for again.
        self._listener = await self._loop.create_server(lambda: Side(Pair(self)), self._host, self.port, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]

    def _answer(self, exchange: Exchange) -> None:
        if exchange.path != b"/fault" or exchange.method not in (b"GET", b"POST", b"DELETE"):
            exchange.respond(404, _JSON, b'{"error":"GET, POST or DELETE /fault"}\n')
        elif exchange.method == b"GET":
            exchange.respond(200, _JSON, msgspec.json.encode(self.describe()) + b"\n")
        else:
            spawn(self._switch(exchange), "switch fault")

    async def _switch(self, exchange: Exchange) -> None:
        try:
            await self.set_fault(NO_WIRE_FAULT if exchange.method == b"DELETE" else read_wire_fault(exchange.body))
        except (ProxyError, OSError) as error:
            exchange.respond(400, _JSON, msgspec.json.encode({"error": str(error)}) + b"\n")
        else:
            exchange.respond(200, _JSON, msgspec.json.encode(self.describe()) + b"\n")


class Pair:
    """One client's connection and the one to the upstream."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        proxy.counts["connections"] += 1
        number = proxy.counts["connections"]
        self._open_ways = 2
        self.up = self._make_lane("up", number)
        self.down = self._make_lane("down", number)
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        #: Whether it was accepted and nobody dials for it.
        self.hangs = any(fault.end == "hang" for fault in proxy.faults.values())

    def _make_lane(self, way: Way, number: int) -> Lane:
        dice = random.Random(f"{self.proxy.seed}\0{number}\0{way}")
        return Lane(self.proxy.faults[way], dice, partial(self._strike, way), self._end_way)

    def open(self, client: asyncio.Transport) -> None:
        """A client has come: dial for it, unless the fault is that nobody does."""
        self.client = client
        self.proxy.pairs.add(self)
        if self.hangs:
            self.proxy.counts["struck"] += 1
        else:
            client.pause_reading()
            spawn(self._dial(client), "dial upstream")

    async def _dial(self, client: asyncio.Transport) -> None:
        host, port = self.proxy.upstream
        try:
            server, _ = await asyncio.get_running_loop().create_connection(
                lambda: Side(self, upstream=True), host, port
            )
        except OSError:
            self.proxy.counts["not_dialled"] += 1
            _reset(client)
            return
        self.server = server
        if client.is_closing():
            server.abort()
            return
        client.resume_reading()
        self.up.connect(client, server)
        self.down.connect(server, client)

    def close(self, *, reset: bool = False) -> None:
        """End both sides; what a transport has not sent yet is sent, unless it is a reset."""
        self.proxy.pairs.discard(self)
        self.up.close()
        self.down.close()
        for transport in (self.client, self.server):
            if transport is not None and not transport.is_closing():
                if reset:
                    _reset(transport)
                else:
                    transport.close()

    def _strike(self, way: Way, fault: WireFault) -> None:
        self.proxy.counts["struck"] += 1
        target = self.server if way == "up" else self.client
        if fault.end in ("reset", "close"):
            self.close(reset=fault.end == "reset")
        elif fault.end == "half_close" and target is not None and target.can_write_eof():
            target.write_eof()
            self._end_way()

    def _end_way(self) -> None:
        """Nothing more goes one way; when nothing goes the other way either, both connections are over."""
        self._open_ways -= 1
        if not self._open_ways:
            self.close()


class Side(asyncio.Protocol):
    """The protocol of one of a pair's connections."""

    def __init__(self, pair: Pair, *, upstream: bool = False) -> None:
        self._pair = pair
        self._upstream = upstream
        self._incoming = pair.down if upstream else pair.up
        self._outgoing = pair.up if upstream else pair.down

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not self._upstream:
            self._pair.open(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self._pair.proxy.counts["down_bytes" if self._upstream else "up_bytes"] += len(data)
        if not self._pair.hangs:
            self._incoming.take(bytes(data))

    def eof_received(self) -> bool:
        """True: the other way stays open."""
        if not self._pair.hangs:
            self._incoming.end()
        return not self._pair.hangs

    def pause_writing(self) -> None:
        self._outgoing.hold_back(full=True)

    def resume_writing(self) -> None:
        self._outgoing.hold_back(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pair.close(reset=exc is not None)


def _reset(transport: asyncio.Transport) -> None:
    """Break a connection with an RST, whatever has been sent."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _refuse(exchange: Exchange, status: int, message: str) -> None:
    exchange.respond(status, b"text/plain", message.encode() + b"\n")
