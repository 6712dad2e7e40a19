"""`compute.v1` at the paths of gRPC, for Connect and gRPC-Web clients on the HTTP port.

gRPC itself is served by the HTTP/2 server, on the same paths and by the same methods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from ollama_proxy.api.compute.answers import CODES
from ollama_proxy.api.compute.methods import SERVICE, ComputeApi
from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.pipelines import Pipelines
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.grpc import connect, web
from ollama_proxy.net.grpc.call import GrpcCall, GrpcMethod
from ollama_proxy.net.grpc.connect import ConnectStreamCall, ConnectUnaryCall, describe_error
from ollama_proxy.net.grpc.health import CHECK, Health
from ollama_proxy.net.grpc.json_codec import JsonCodec
from ollama_proxy.net.grpc.status import UNIMPLEMENTED
from ollama_proxy.net.grpc.web import GrpcWebCall
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_route import Route
from ollama_proxy.net.timers import TimerWheel

Handler = Callable[[Exchange], None]
_SERVICE = compute_pb2.DESCRIPTOR.services_by_name["ComputeService"]


class RpcApi:
    """Connect and gRPC-Web, told apart by the content type."""

    root = f"/{SERVICE}/".encode()

    def __init__(
        self,
        service: Service,
        is_leaving: Callable[[], bool] = lambda: False,
        pipelines: Pipelines | None = None,
    ) -> None:
        self._wheel = TimerWheel(asyncio.get_running_loop())
        methods = ComputeApi(service, pipelines).methods()
        codecs = {f"/{SERVICE}/{name}": JsonCodec(method) for name, method in _SERVICE.methods_by_name.items()}
        self.routes: dict[bytes, dict[bytes, Handler]] = {
            path.encode(): {b"POST": Route(self._serve(method, codecs[path]), method.permission)}
            for path, method in methods.items()
        }
        check = Health(is_leaving).methods[CHECK]
        self.routes[CHECK.encode()] = {b"POST": Route(self._serve(check, None), check.permission)}
        unknown = GrpcMethod(_refuse_method)
        self.prefixes: dict[bytes, dict[bytes, Handler]] = {self.root: {b"POST": self._serve(unknown, None)}}

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in the protocol that was asked for."""
        code, media_type = CODES[error.kind], _media_type(exchange)
        if media_type in web.MEDIA_TYPES:
            GrpcWebCall(exchange, GrpcMethod(_refuse_method), media_type).finish(code, error.message)
        else:
            body = msgspec.json.encode(describe_error(code, error.message))
            exchange.respond(error.kind.http_status, b"application/json", body)

    def _serve(self, method: GrpcMethod, codec: JsonCodec | None) -> Handler:
        """The handler of a method. Without a codec there is gRPC-Web only."""
        connect_types = connect.STREAM_TYPES if method.server_streaming else connect.UNARY_TYPES
        taken = sorted(web.MEDIA_TYPES | (connect_types if codec else frozenset()))
        accept = (b"Accept-Post", b", ".join(taken))

        def serve(exchange: Exchange) -> None:
            media_type = _media_type(exchange)
            if media_type in web.MEDIA_TYPES:
                GrpcWebCall(exchange, method, media_type).serve(self._wheel)
            elif codec is not None and media_type in connect_types:
                kind = ConnectStreamCall if method.server_streaming else ConnectUnaryCall
                kind(exchange, method, media_type, codec).serve(self._wheel)
            elif method.handler is _refuse_method:
                body = describe_error(UNIMPLEMENTED, f"unknown method {exchange.path.decode('latin-1')[:200]}")
                exchange.respond(404, b"application/json", msgspec.json.encode(body))
            else:
                text = f"content type {media_type.decode('latin-1')[:80]!r} is not served here"
                body = describe_error(UNIMPLEMENTED, text)
                exchange.respond(415, b"application/json", msgspec.json.encode(body), [accept])

        return serve


def _media_type(exchange: Exchange) -> bytes:
    return (exchange.header(b"content-type") or b"").partition(b";")[0].strip().lower()


def _refuse_method(call: GrpcCall, message: bytes) -> None:
    call.finish(UNIMPLEMENTED, "unknown method")
