"""The ports the program listens on: who answers on each, opening them, moving them, leaving them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Protocol

import msgspec

from ollama_proxy.api.compute.methods import SERVICE, ComputeApi
from ollama_proxy.app.front import Front
from ollama_proxy.config.schema import Config, Tls
from ollama_proxy.net.grpc.server import GrpcServer
from ollama_proxy.net.http1.server import HttpServer
from ollama_proxy.net.http2.connection import Connection
from ollama_proxy.net.http2.exchange import Http2Exchange, HttpService
from ollama_proxy.net.http2.head import RequestHead
from ollama_proxy.net.http2.server import Http2Server
from ollama_proxy.net.http2.stream import Stream
from ollama_proxy.net.listening import Listener, close_all, open_sockets
from ollama_proxy.net.port import HttpPort
from ollama_proxy.net.tls import TlsError, make_server_context
from ollama_proxy.net.uptake import Pace

_log = logging.getLogger(__name__)

_ALPN = {"http": ("h2", "http/1.1"), "grpc": ("h2",)}


class CannotListen(Exception):
    """A port that cannot be bound, or has no certificate to show; the text says which and what to do."""


class Place(msgspec.Struct, frozen=True):
    """Where one port is, as configured. With port 0 each name has a port of its own."""

    host: str
    port: int
    name: str = ""


Sockets = Mapping[Place, list[socket.socket]]


class Server(Protocol):
    """What answers on a port."""

    def protocol_factory(self) -> asyncio.BaseProtocol:
        """For `loop.create_server`."""

    def sweep(self, now_s: float) -> None:
        """Look after late clients."""

    def expect(self, pace: Pace) -> None:
        """What clients must take of their answers from now on."""

    def announce(self, *, followed: bool = False) -> None:
        """Serve on, but let clients know that they should go elsewhere with the next request; `followed` by another
        process, to that."""

    def begin_drain(self) -> None:
        """Take nothing new, and close each connection when what it carries has ended."""

    async def wait_idle(self) -> None:
        """Wait until no connection is left."""

    def abort(self) -> None:
        """Close what is left."""


class Move(msgspec.Struct, frozen=True):
    """Where to listen from now on, with everything opened that this takes."""

    places: Mapping[str, Place]
    contexts: Mapping[str, ssl.SSLContext | None]
    opened: Sockets
    pace: Pace = Pace()


class Ports:
    """HTTP (which takes gRPC over HTTP/2 as well), gRPC, and metrics on a port of their own."""

    def __init__(self, front: Front, compute: ComputeApi) -> None:
        grpc = GrpcServer(compute.methods(), (SERVICE,), gate=front.guard)
        self._health = grpc.calls.health
        metrics = HttpServer(front.handle, front.refuse)
        self._servers: dict[str, Server] = {"http": _build_http(front, grpc), "grpc": grpc, "prometheus": metrics}
        #: What this process listens on, whoever opened it.
        self._sockets: dict[Place, list[socket.socket]] = {}
        self._places: Mapping[str, Place] = {}
        self._listeners: dict[str, Listener] = {}

    @property
    def http(self) -> int:
        """The HTTP port that was bound."""
        return self._bound("http")

    @property
    def grpc(self) -> int:
        """The gRPC port that was bound."""
        return self._bound("grpc")

    def _bound(self, name: str) -> int:
        port: int = self._sockets[self._places[name]][0].getsockname()[1]
        return port

    @property
    def sockets(self) -> Sockets:
        """What is listened on."""
        return self._sockets

    def inherit(self, sockets: Sockets) -> None:
        """Listen on what somebody else has opened, as far as it is wanted."""
        self._sockets |= sockets

    def prepare(self, config: Config) -> Move:
        """Open what a configuration asks for and is not open yet. Raises `CannotListen`, and then nothing is opened."""
        wanted = find_places(config)
        opened: dict[Place, list[socket.socket]] = {}
        try:
            contexts = {name: _make_context(config.server.tls, *_ALPN[name]) for name in wanted if name in _ALPN}
            for name, place in list(wanted.items()):
                if place in self._sockets:
                    continue
                try:
                    opened[place] = self._open(place, name)
                except CannotListen as error:
                    if name != "prometheus":
                        raise
                    # /metrics on the HTTP port answers as well, so this is no reason not to serve.
                    _log.warning("%s; metrics stay on the HTTP port", error)
                    del wanted[name]
        except CannotListen:
            for sockets in opened.values():
                close_all(sockets)
            raise
        slow = config.server.slow_readers
        return Move(wanted, contexts, opened, Pace(slow.min_bytes_per_second, slow.window_seconds))

    def _open(self, place: Place, name: str) -> list[socket.socket]:
        try:
            return open_sockets(place.host, place.port)
        except OSError as error:
            ours = [one.host for one in self._sockets if one.port == place.port]
            if error.errno == errno.EADDRINUSE and ours:
                told = f"needs a restart: port {place.port} is open at {ours[0]}, and cannot be opened at {place.host}"
                raise CannotListen(f"{told} before it is closed there") from None
            raise CannotListen(_describe(error, place, name)) from None

    async def commit(self, move: Move) -> None:
        """Accept there, and then no longer where this is not wanted any more; open connections stay."""
        self._sockets |= move.opened
        for server in self._servers.values():
            server.expect(move.pace)
        for name, place in move.places.items():
            tls = move.contexts.get(name)
            listener = self._listeners.get(name)
            if listener is None or self._places[name] != place:
                listener = Listener(self._servers[name].protocol_factory, self._sockets[place])
                await listener.accept(tls)
                if name in self._listeners:
                    self._listeners[name].stop()
                self._listeners[name] = listener
            elif tls is not None or listener.tls:
                await listener.accept(tls)
        for name in self._listeners.keys() - move.places.keys():
            self._listeners.pop(name).stop()
        self._places = move.places
        for place in self._sockets.keys() - set(move.places.values()):
            close_all(self._sockets.pop(place))

    def sweep(self, now_s: float) -> None:
        """Look after late clients; call about once a second."""
        for server in self._servers.values():
            server.sweep(now_s)

    def announce(self, *, followed: bool = False) -> None:
        """Serve on, but send clients elsewhere with their next request; to a successor, if that has `followed`."""
        self._health.leave(followed=followed)
        for server in self._servers.values():
            server.announce(followed=followed)

    def stop_listening(self) -> None:
        """Accept no more; sockets that another process holds as well stay open there."""
        for listener in self._listeners.values():
            listener.stop()
        for sockets in self._sockets.values():
            close_all(sockets)
        self._listeners, self._sockets, self._places = {}, {}, {}

    def begin_drain(self) -> None:
        """Take nothing new, and close each connection when what it carries has ended."""
        for server in self._servers.values():
            server.begin_drain()

    async def wait_idle(self) -> None:
        """Wait until nobody waits for an answer any more."""
        for name, server in self._servers.items():
            if name != "prometheus":
                await server.wait_idle()

    def abort(self) -> None:
        """Close what is left. Scrapers are not waited for: they come back by themselves."""
        for server in self._servers.values():
            server.abort()


def find_places(config: Config) -> dict[str, Place]:
    """Where to listen, by name."""
    server, monitoring = config.server, config.monitoring
    ports = {"http": server.http_port, "grpc": server.grpc_port}
    if monitoring.enabled and monitoring.prometheus_port not in (0, server.http_port):
        ports["prometheus"] = monitoring.prometheus_port
    host = server.host.strip("[]")
    return {name: Place(host, port, "" if port else name) for name, port in ports.items()}


def _make_context(tls: Tls, *alpn: str) -> ssl.SSLContext | None:
    if not tls.enabled:
        return None
    try:
        return make_server_context(tls.cert_file, tls.key_file, client_ca_file=tls.client_ca_file or None, alpn=alpn)
    except TlsError as error:
        raise CannotListen(f"server.tls: {error}") from None


def _build_http(front: Front, grpc: GrpcServer) -> HttpPort:
    service = HttpService(front.handle, front.refuse, streams=front.streams)

    def open_stream(connection: Connection, stream_id: int, head: RequestHead) -> Stream:
        call = grpc.calls.open(connection, stream_id, head)
        return call or Http2Exchange(connection, stream_id, head, service)

    return HttpPort(HttpServer(front.handle, front.refuse, streams=front.streams), Http2Server(open_stream))


def _describe(error: OSError, place: Place, name: str) -> str:
    flag = f"--{name}-port" if name != "prometheus" else "monitoring.prometheus_port"
    if error.errno == errno.EADDRINUSE:
        told = f"port {place.port} ({name}) is in use; stop the other program"
        return f"{told} (or follow it with --take-over, if it is a proxy) or choose another with {flag}"
    if error.errno == errno.EACCES:
        return f"port {place.port} ({name}) is not for this user; choose another with {flag}"
    reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else error.strerror
    return f"{place.host} port {place.port} ({name}) cannot be listened on: {reason}"
