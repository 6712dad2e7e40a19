"""The gRPC port: calls find their method, everything else is told where it is."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from ollama_proxy.domain.caller import Permission
from ollama_proxy.net.grpc.call import GrpcMethod
from ollama_proxy.net.grpc.health import Health
from ollama_proxy.net.grpc.reflection import REFLECTION_METHODS, Reflection
from ollama_proxy.net.grpc.route import GrpcRoute, is_grpc, read_route
from ollama_proxy.net.grpc.stream import GrpcStream
from ollama_proxy.net.http2.connection import Connection
from ollama_proxy.net.http2.head import RequestHead
from ollama_proxy.net.http2.hpack import encode_literal, encode_status
from ollama_proxy.net.http2.limits import Http2Limits
from ollama_proxy.net.http2.server import Http2Server
from ollama_proxy.net.http2.stream import Stream
from ollama_proxy.net.timers import TimerWheel

_NOT_GRPC = b"this port speaks gRPC: POST with content-type application/grpc\n"
_NOT_GRPC_BLOCK = (
    encode_status(415)
    + encode_literal(b"content-type", b"text/plain; charset=utf-8")
    + encode_literal(b"content-length", b"%d" % len(_NOT_GRPC))
)


class Gate(Protocol):
    """Who may call what."""

    @property
    def is_checked(self) -> bool:
        """Whether there is anything to check of calls to ordinary methods."""

    def judge_call(self, head: RequestHead, peer: str, permission: Permission) -> GrpcRoute | None:
        """The refusal of a call with such a head, from such an address, to a method that needs this; None lets it
        in."""


class GrpcServer(Http2Server):
    """`methods` by path; `reflected` are the services that clients may list, health answers unlisted."""

    def __init__(
        self,
        methods: Mapping[str, GrpcMethod],
        reflected: Sequence[str],
        limits: Http2Limits | None = None,
        gate: Gate | None = None,
    ) -> None:
        self.calls = GrpcCalls(methods, reflected, gate)
        super().__init__(self._open, limits)

    def _open(self, connection: Connection, stream_id: int, head: RequestHead) -> Stream:
        return self.calls.open(connection, stream_id, head) or _Refusal(connection, stream_id, head)


class GrpcCalls:
    """Opens the stream of a gRPC call, on whichever port it came."""

    def __init__(self, methods: Mapping[str, GrpcMethod], reflected: Sequence[str], gate: Gate | None = None) -> None:
        self._gate = gate
        reflect = GrpcMethod(
            Reflection(reflected).serve, client_streaming=True, server_streaming=True, permission="key"
        )
        self.health = Health()
        every = {**methods, **self.health.methods, **dict.fromkeys(REFLECTION_METHODS, reflect)}
        self._methods = {path.encode("ascii"): method for path, method in every.items()}
        self._wheel = TimerWheel(asyncio.get_running_loop())

    def open(self, connection: Connection, stream_id: int, head: RequestHead) -> GrpcStream | None:
        """The stream of a call, or None when the request is none."""
        route = head.route
        if route is None:
            if not is_grpc(head):
                return None
            route = head.route = read_route(head, self._methods, connection.limits.list_bytes)
        if not isinstance(route, GrpcRoute):
            return None
        gate = self._gate
        if gate is not None:
            needed = route.method.permission if route.method is not None else "key"
            if gate.is_checked or needed in ("models", "admin"):
                route = gate.judge_call(head, connection.peer, needed) or route
        return GrpcStream(connection, stream_id, head, route, self._wheel)


class _Refusal(Stream):
    """Answers what is no gRPC call, when it is whole."""

    def received(self, data: bytes, *, ended: bool) -> None:
        if ended:
            self.send_headers(_NOT_GRPC_BLOCK)
            self.send_data(_NOT_GRPC, ended=True)

    def lost(self) -> None:
        """There is no work to stop."""
