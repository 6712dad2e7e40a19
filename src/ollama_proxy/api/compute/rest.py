"""`compute.v1` as plain HTTP and JSON: proto3 JSON in and out, streams as NDJSON or server-sent events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from urllib.parse import parse_qsl

import msgspec

from ollama_proxy.api.compute.answers import CODES
from ollama_proxy.api.compute.methods import SERVICE, ComputeApi
from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.pipelines import Pipelines
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.grpc.call import GrpcMethod
from ollama_proxy.net.grpc.connect import is_gzip
from ollama_proxy.net.grpc.http_call import HttpCall
from ollama_proxy.net.grpc.inflate import BadMessage, inflate
from ollama_proxy.net.grpc.json_codec import JsonCodec
from ollama_proxy.net.grpc.status import INVALID_ARGUMENT, code_name, code_status
from ollama_proxy.net.http1.exchange import Exchange, Header
from ollama_proxy.net.http_route import Route
from ollama_proxy.net.timers import TimerWheel

Handler = Callable[[Exchange], None]
_SERVICE = compute_pb2.DESCRIPTOR.services_by_name["ComputeService"]
_JSON, _NDJSON, _EVENTS = b"application/json", b"application/x-ndjson", b"text/event-stream"
_NO_WEIGHT = re.compile(rb"q=0(?:\.0{0,3})?")
#: Path below the root, and the method of the service.
_POSTS = {
    "generate": "Generate",
    "generate/stream": "GenerateStream",
    "embed": "Embed",
    "pipelines/execute": "ExecutePipeline",
    "pipelines/execute/stream": "ExecutePipelineStream",
}
_GETS = {"backends": "ListBackends", "health": "HealthCheck"}


class RestApi:
    """The gateway's routes."""

    root = b"/compute/v1/"

    def __init__(self, service: Service, pipelines: Pipelines | None = None) -> None:
        self._methods = ComputeApi(service, pipelines).methods()
        self._wheel = TimerWheel(asyncio.get_running_loop())
        self.routes: dict[bytes, dict[bytes, Handler]] = {}
        for path, name in _POSTS.items():
            self.routes[self.root + path.encode()] = {b"POST": self._serve(name, _read_body)}
        for path, name in _GETS.items():
            handler = Route(self._serve(name, _read_query), self._methods[f"/{SERVICE}/{name}"].permission)
            self.routes[self.root + path.encode()] = {b"GET": handler, b"HEAD": handler}
        self.prefixes: dict[bytes, dict[bytes, Handler]] = {}

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in this dialect."""
        body = describe_error(CODES[error.kind], error.message, exchange.request_id)
        exchange.respond(error.kind.http_status, _JSON, msgspec.json.encode(body))

    def _serve(self, name: str, read: Callable[[Exchange, JsonCodec], bytes]) -> Handler:
        method, codec = self._methods[f"/{SERVICE}/{name}"], JsonCodec(_SERVICE.methods_by_name[name])

        def serve(exchange: Exchange) -> None:
            RestCall(exchange, method, codec).run(lambda: read(exchange, codec), self._wheel)

        return serve


class RestCall(HttpCall):
    """A call of the gateway."""

    protocol = "rest"

    def __init__(self, exchange: Exchange, method: GrpcMethod, codec: JsonCodec) -> None:
        super().__init__(exchange, method)
        self._codec = codec
        self._events = method.server_streaming and accepts_events(exchange.header(b"accept"))

    def _content_type(self) -> bytes:
        return _EVENTS if self._events else _NDJSON

    def _write_message(self, message: bytes) -> bytes:
        line = self._codec.write(message, every_field=True)
        return b"data: %b\n\n" % line if self._events else line + b"\n"

    def _write_end(self, code: int, message: str, trailers: Sequence[Header]) -> bytes:
        if not code:
            return b""
        line = msgspec.json.encode({"error": {"code": code_name(code), "message": message}})
        return b"event: error\ndata: %b\n\n" % line if self._events else line + b"\n"

    def _answer_whole(self, answer: bytes | None, code: int, message: str, trailers: Sequence[Header]) -> None:
        if answer is None:
            self._refuse_stream(code, message, trailers)
        else:
            body = self._codec.write(answer, every_field=True) + b"\n"
            self.exchange.respond(200, _JSON, body, self.head_fields(self.initial))

    def _refuse_stream(self, code: int, message: str, trailers: Sequence[Header]) -> None:
        body = msgspec.json.encode(describe_error(code, message, self.exchange.request_id)) + b"\n"
        self.exchange.respond(code_status(code), _JSON, body, self.error_fields(trailers))


def describe_error(code: int, message: str, request_id: str) -> dict[str, str]:
    """The gateway's error object."""
    return {"code": code_name(code), "message": message, "requestId": request_id}


def accepts_events(accept: bytes | None) -> bool:
    """Whether server-sent events are asked for; a weight of zero says that they are not."""
    for one in (accept or b"").lower().split(b","):
        media_type, *parameters = (part.strip() for part in one.split(b";"))
        if media_type == _EVENTS:
            return not any(_NO_WEIGHT.fullmatch(parameter) for parameter in parameters)
    return False


def _read_body(exchange: Exchange, codec: JsonCodec) -> bytes:
    packed = is_gzip(exchange.header(b"content-encoding"))
    return codec.read(inflate(exchange.body, INVALID_ARGUMENT) if packed else exchange.body)


def _read_query(exchange: Exchange, codec: JsonCodec) -> bytes:
    try:
        pairs = parse_qsl(exchange.query.decode("latin-1"), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise BadMessage(INVALID_ARGUMENT, f"invalid query: {error}") from None
    return codec.read_document(dict(pairs))
