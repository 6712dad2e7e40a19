"""The ports the program listens on: who answers on each, binding them, leaving them."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Protocol

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
from ollama_proxy.net.port import HttpPort
from ollama_proxy.net.tls import TlsError, make_server_context

_log = logging.getLogger(__name__)

_BACKLOG = 2048
#: Scrapers come back by themselves.
_METRICS_GRACE_S = 0.1


class CannotListen(Exception):
    """A port that cannot be bound, or has no certificate to show; the text says which and what to do."""


class Server(Protocol):
    """What answers on a port."""

    def protocol_factory(self) -> asyncio.BaseProtocol:
        """For `loop.create_server`."""

    def sweep(self, now_s: float) -> None:
        """Look after late clients."""

    async def drain(self, grace_s: float) -> None:
        """Take nothing new, wait, close."""


class Ports:
    """HTTP (which takes gRPC over HTTP/2 as well), gRPC, and metrics on a port of their own."""

    def __init__(self, config: Config, front: Front, compute: ComputeApi) -> None:
        self._config = config
        grpc = GrpcServer(compute.methods(), (SERVICE,))
        self._grpc: Server = grpc
        self._http: Server = _build_http(front, grpc)
        self._metrics: Server = HttpServer(front.handle, front.refuse)
        self._listeners: list[asyncio.Server] = []
        self.http = self.grpc = 0

    async def bind(self) -> None:
        """Listen. Raises `CannotListen`."""
        server, monitoring = self._config.server, self._config.monitoring
        self.http = await self._bind(self._http, server.http_port, "http", _make_context(server.tls, "h2", "http/1.1"))
        self.grpc = await self._bind(self._grpc, server.grpc_port, "grpc", _make_context(server.tls, "h2"))
        extra = monitoring.prometheus_port
        if monitoring.enabled and extra and extra != self.http:
            try:
                await self._bind(self._metrics, extra, "prometheus")
            except CannotListen as error:
                # /metrics on the HTTP port answers as well, so this is no reason not to serve.
                _log.warning("%s; metrics stay on port %d", error, self.http)

    async def _bind(self, server: Server, port: int, name: str, tls: ssl.SSLContext | None = None) -> int:
        host = self._config.server.host.strip("[]")
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(server.protocol_factory, host, port, backlog=_BACKLOG, ssl=tls)
        except OSError:
            raise CannotListen(_describe_taken(port, name)) from None
        self._listeners.append(listener)
        bound: int = listener.sockets[0].getsockname()[1]
        return bound

    def sweep(self, now_s: float) -> None:
        """Look after late clients; call about once a second."""
        for server in (self._http, self._grpc, self._metrics):
            server.sweep(now_s)

    async def drain(self, grace_s: float) -> None:
        """Listen no more, let answers end within the grace period, close what is left."""
        for listener in self._listeners:
            listener.close()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._http.drain(grace_s))
            group.create_task(self._grpc.drain(grace_s))
            group.create_task(self._metrics.drain(min(grace_s, _METRICS_GRACE_S)))


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


def _describe_taken(port: int, name: str) -> str:
    flag = f"--{name}-port" if name != "prometheus" else "monitoring.prometheus_port"
    return f"port {port} ({name}) is in use; stop the other program or choose another with {flag}"
