"""Answers of `compute.v1`: one sink for whole texts, one for streams, one for vectors; the gRPC code of every error."""

from __future__ import annotations

from collections.abc import Sequence

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Outcome, Route, TextDelta
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import Ticket
from ollama_proxy.net.grpc.call import GrpcCall

#: https://grpc.io/docs/guides/status-codes/
CODES = {
    ErrorKind.INVALID_REQUEST: 3,
    ErrorKind.TOO_LARGE: 8,
    ErrorKind.UNAUTHENTICATED: 16,
    ErrorKind.PERMISSION_DENIED: 7,
    ErrorKind.NOT_FOUND: 5,
    ErrorKind.METHOD_NOT_ALLOWED: 12,
    ErrorKind.MODEL_NOT_FOUND: 5,
    ErrorKind.NO_HEALTHY_BACKEND: 14,
    ErrorKind.LIMITS_EXCLUDE_ALL: 9,
    ErrorKind.OVERLOADED: 8,
    ErrorKind.DEADLINE: 4,
    ErrorKind.BACKEND_FAILED: 14,
    ErrorKind.BACKEND_REFUSED: 3,
    ErrorKind.UNIMPLEMENTED: 12,
    ErrorKind.INTERNAL: 13,
}


def fail_call(call: GrpcCall, error: ProxyError, request_id: str, route: Route | None = None) -> None:
    """End a call with the code of an error."""
    trailers = _metadata(route, request_id)
    if error.retry_after_s > 0:
        trailers.append(("retry-after-ms", str(round(error.retry_after_s * 1000))))
    call.finish(CODES[error.kind], error.message, trailers)


def _metadata(route: Route | None, request_id: str) -> list[tuple[str, str]]:
    found = [("x-request-id", request_id)] if request_id else []
    if route is not None:
        found += [(name.lower(), _ascii(value)) for name, value in route.headers()]
    return found


def _ascii(value: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in value)


class _Answer:
    """What the three sinks share: the route, the ticket, the errors. There is no fast lane into protobuf."""

    def __init__(self, call: GrpcCall, request_id: str) -> None:
        self._call = call
        self._request_id = request_id
        self._route: Route | None = None

    def attach(self, ticket: Ticket) -> None:
        """Tie the client's leaving, its deadline and its slowness to the work."""
        call = self._call
        if call.finished:
            return
        if call.cancelled:
            ticket.cancel()
            return
        call.on_cancel = ticket.cancel
        call.on_pause = ticket.pause
        call.on_resume = ticket.resume

    def routed(self, route: Route) -> None:
        self._route = route
        self._call.send_initial_metadata(_metadata(route, self._request_id))

    def start_raw(self, status: int, content_type: bytes, length: int | None) -> None:
        raise AssertionError(f"a raw answer ({status} {content_type!r}, {length} bytes) cannot become protobuf")

    def send_raw(self, data: bytes) -> None:
        raise AssertionError(f"{len(data)} raw bytes cannot become protobuf")

    def relay(self) -> None:
        """There is no raw answer."""

    def send_whole(self, status: int, content_type: bytes, body: bytes) -> None:
        raise AssertionError(f"a raw answer ({status} {content_type!r}, {len(body)} bytes) cannot become protobuf")

    def fail(self, error: ProxyError) -> None:
        fail_call(self._call, error, self._request_id, self._route)


class GenerateAnswer(_Answer):
    """The whole text in one message."""

    def __init__(self, call: GrpcCall, request_id: str) -> None:
        super().__init__(call, request_id)
        self._text: list[str] = []

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        self._text += [event.text for event in events if isinstance(event, TextDelta)]

    def finish(self, outcome: Outcome) -> None:
        route = self._route
        answer = compute_pb2.GenerateResponse(
            response="".join(self._text),
            backend_used=route.backend if route else "",
            routing=describe_route(route) if route else None,
            stats=describe_stats(outcome),
        )
        self._call.send_message(answer.SerializeToString())
        self._call.finish(trailers=_metadata(route, self._request_id))


class StreamAnswer(_Answer):
    """The text piece by piece; the last message has `done` and the stats."""

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        backend = self._route.backend if self._route else ""
        for event in events:
            if isinstance(event, TextDelta):
                piece = compute_pb2.GenerateStreamResponse(token=event.text, backend_used=backend)
                self._call.send_message(piece.SerializeToString())

    def finish(self, outcome: Outcome) -> None:
        backend = self._route.backend if self._route else ""
        last = compute_pb2.GenerateStreamResponse(done=True, backend_used=backend, stats=describe_stats(outcome))
        self._call.send_message(last.SerializeToString())
        self._call.finish(trailers=_metadata(self._route, self._request_id))


class EmbedAnswer(_Answer):
    """One vector."""

    def __init__(self, call: GrpcCall, request_id: str) -> None:
        super().__init__(call, request_id)
        self._vector: tuple[float, ...] = ()

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        for event in events:
            if isinstance(event, Embeddings) and event.vectors:
                self._vector = event.vectors[0]

    def finish(self, outcome: Outcome) -> None:
        route = self._route
        answer = compute_pb2.EmbedResponse(
            embedding=self._vector,
            backend_used=route.backend if route else "",
            routing=describe_route(route) if route else None,
        )
        self._call.send_message(answer.SerializeToString())
        self._call.finish(trailers=_metadata(route, self._request_id))


def as_int32(value: float) -> int:
    """The nearest number that the contract's int32 can carry: a backend may say anything."""
    return max(-(2**31), min(round(value), 2**31 - 1))


def describe_route(route: Route) -> compute_pb2.RoutingMetadata:
    """The routing message."""
    return compute_pb2.RoutingMetadata(
        backend=route.backend,
        reason=route.reason,
        estimated_power_watts=route.power_watts,
        estimated_latency_ms=as_int32(route.latency_ms),
        alternatives=route.alternatives,
    )


def describe_stats(outcome: Outcome) -> compute_pb2.GenerationStats:
    """The stats message; energy is left at zero, proto3's "absent", when nothing is known of it."""
    return compute_pb2.GenerationStats(
        time_to_first_token_ms=as_int32(outcome.ttft_s * 1000),
        total_time_ms=as_int32(outcome.total_s * 1000),
        tokens_generated=as_int32(outcome.output_tokens),
        tokens_per_second=outcome.tokens_per_second,
        energy_wh=(outcome.joules or 0.0) / 3600,
    )
