"""Answers of `compute.v1`: one sink for whole texts, one for streams, one for vectors; the gRPC code of every error."""

from __future__ import annotations

from collections.abc import Sequence

from ollama_proxy.api.compute.metadata import encode_route
from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Outcome, Progress, Route, TextDelta
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import Ticket
from ollama_proxy.net.grpc.call import GrpcCall
from ollama_proxy.net.grpc.metadata import encode_metadata

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
    ErrorKind.OVERLOADED: 14,
    ErrorKind.RATE_LIMITED: 8,
    ErrorKind.DEADLINE: 4,
    ErrorKind.BACKEND_FAILED: 14,
    ErrorKind.BACKEND_REFUSED: 3,
    ErrorKind.UNIMPLEMENTED: 12,
    ErrorKind.INTERNAL: 13,
}


def fail_call(call: GrpcCall, error: ProxyError, request_id: str, route: Route | None = None) -> None:
    """End a call with the code of an error."""
    trailers = encode_route(route, request_id)
    if error.decision_id and route is None:
        trailers += encode_metadata([("x-decision-id", error.decision_id)])
    if error.retry_after_s > 0:
        trailers += encode_metadata([("retry-after-ms", str(round(error.retry_after_s * 1000)))])
    call.finish(CODES[error.kind], error.message, trailers)


class _Answer:
    """What the three sinks share: the route, the ticket, the errors. There is no fast lane into protobuf."""

    __slots__ = ("_call", "_metadata", "_request_id", "_route")

    def __init__(self, call: GrpcCall, request_id: str) -> None:
        self._call = call
        self._request_id = request_id
        self._route: Route | None = None
        #: Encoded once; it goes out in front of the answer and behind it.
        self._metadata = b""

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
        self._metadata = metadata = encode_route(route, self._request_id)
        self._call.send_initial_metadata(metadata)

    def start_raw(self, status: int, content_type: bytes, length: int | None) -> None:
        raise AssertionError(f"a raw answer ({status} {content_type!r}, {length} bytes) cannot become protobuf")

    def send_raw(self, data: bytes) -> None:
        raise AssertionError(f"{len(data)} raw bytes cannot become protobuf")

    def take_over(self, progress: Progress) -> None:
        raise AssertionError(f"a raw answer of {len(progress.events)} events cannot become protobuf")

    def continued(self, route: Route) -> None:
        """The trailers tell of the backend that has ended it."""
        self._route = route
        self._metadata = encode_route(route, self._request_id)

    def relay(self) -> None:
        """There is no raw answer."""

    def send_whole(self, status: int, content_type: bytes, body: bytes) -> None:
        raise AssertionError(f"a raw answer ({status} {content_type!r}, {len(body)} bytes) cannot become protobuf")

    def fail(self, error: ProxyError) -> None:
        fail_call(self._call, error, self._request_id, self._route)


class GenerateAnswer(_Answer):
    """The whole text in one message."""

    __slots__ = ("_text",)

    def __init__(self, call: GrpcCall, request_id: str) -> None:
        super().__init__(call, request_id)
        self._text: list[str] = []

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        self._text += [event.text for event in events if isinstance(event, TextDelta)]

    def finish(self, outcome: Outcome) -> None:
        answer = compute_pb2.GenerateResponse()
        answer.response = "".join(self._text)
        route = self._route
        if route is not None:
            answer.backend_used = route.backend
            fill_route(answer.routing, route)
            if route.cache is not None:
                answer.from_cache = route.cache.state == "hit"
        fill_stats(answer.stats, outcome)
        self._call.respond(answer.SerializeToString(), self._metadata, self._metadata)


class StreamAnswer(_Answer):
    """The text piece by piece; the last message has `done` and the stats."""

    __slots__ = ("_backend",)

    def __init__(self, call: GrpcCall, request_id: str) -> None:
        super().__init__(call, request_id)
        #: `backend_used` as it stands at the end of each message.
        self._backend = b""

    def routed(self, route: Route) -> None:
        super().routed(route)
        self._backend = encode_backend_used(route.backend)

    def continued(self, route: Route) -> None:
        super().continued(route)
        self._backend = encode_backend_used(route.backend)

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        for event in events:
            if event.__class__ is TextDelta:
                self._call.send_message(encode_token(event.text, self._backend))

    def finish(self, outcome: Outcome) -> None:
        last = compute_pb2.GenerateStreamResponse(done=True)
        if self._route is not None:
            last.backend_used = self._route.backend
        fill_stats(last.stats, outcome)
        self._call.send_message(last.SerializeToString())
        self._call.finish(trailers=self._metadata)


class EmbedAnswer(_Answer):
    """One vector."""

    __slots__ = ("_vector",)

    def __init__(self, call: GrpcCall, request_id: str) -> None:
        super().__init__(call, request_id)
        self._vector: tuple[float, ...] = ()

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        for event in events:
            if isinstance(event, Embeddings) and event.vectors:
                self._vector = event.vectors[0]

    def finish(self, outcome: Outcome) -> None:
        answer = compute_pb2.EmbedResponse(embedding=self._vector)
        route = self._route
        if route is not None:
            answer.backend_used = route.backend
            fill_route(answer.routing, route)
        self._call.respond(answer.SerializeToString(), self._metadata, self._metadata)


def encode_backend_used(backend: str) -> bytes:
    """`GenerateStreamResponse.backend_used` alone."""
    return compute_pb2.GenerateStreamResponse(backend_used=backend).SerializeToString()


def encode_token(text: str, backend_used: bytes) -> bytes:
    """A `GenerateStreamResponse` with its token: there is one for each, and written by hand it costs a quarter."""
    token = text.encode()
    size = len(token)
    if 0 < size < 128:
        return b"\n%c%b%b" % (size, token, backend_used)
    return compute_pb2.GenerateStreamResponse(token=text).SerializeToString() + backend_used


def as_int32(value: float) -> int:
    """The nearest number that the contract's int32 can carry: a backend may say anything."""
    whole = round(value)
    return whole if -(2**31) <= whole < 2**31 else (2**31 - 1 if whole > 0 else -(2**31))


def fill_route(to: compute_pb2.RoutingMetadata, route: Route) -> None:
    """The routing message. Assigning field by field costs half of building it with keywords."""
    to.backend = route.backend
    to.reason = route.reason
    to.estimated_power_watts = route.power_watts
    to.estimated_latency_ms = as_int32(route.latency_ms)
    to.alternatives.extend(route.alternatives)


def fill_stats(to: compute_pb2.GenerationStats, outcome: Outcome) -> None:
    """The stats message; energy is left at zero, proto3's "absent", when nothing is known of it."""
    joules = outcome.joules
    to.tokens_per_second = outcome.tokens_per_second
    to.energy_wh = joules / 3600 if joules else 0.0
    try:
        to.time_to_first_token_ms = round(outcome.ttft_s * 1000)
        to.total_time_ms = round(outcome.total_s * 1000)
        to.tokens_generated = outcome.output_tokens
    except ValueError:  # one of them is beyond int32
        to.time_to_first_token_ms = as_int32(outcome.ttft_s * 1000)
        to.total_time_ms = as_int32(outcome.total_s * 1000)
        to.tokens_generated = as_int32(outcome.output_tokens)
