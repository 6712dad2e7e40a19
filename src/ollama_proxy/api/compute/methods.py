"""gRPC `compute.v1.ComputeService`: the methods, as callbacks over the gRPC server's calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from ollama_proxy.api.compute.answers import EmbedAnswer, GenerateAnswer, StreamAnswer, as_int32, fail_call
from ollama_proxy.api.compute.metadata import encode_request_id
from ollama_proxy.api.compute.pipelines import PipelineAnswer, read_wish
from ollama_proxy.api.compute.requests import HeadFacts, read_embed, read_generate
from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendView, FleetView, Health
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.pipelines import Pipelines
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.grpc.call import GrpcCall, GrpcMethod

SERVICE = "compute.v1.ComputeService"
M = TypeVar("M", bound=Message)


class ComputeApi:
    """The service's methods."""

    def __init__(self, service: Service, pipelines: Pipelines | None = None) -> None:
        """`pipelines` runs those that are configured; None where none are."""
        self._service = service
        self._pipelines = pipelines
        self._health = _HealthAnswer()

    def methods(self) -> Mapping[str, GrpcMethod]:
        """For the gRPC server, by path."""
        methods = {
            "Generate": GrpcMethod(self._generate),
            "GenerateStream": GrpcMethod(self._generate_stream, server_streaming=True),
            "Embed": GrpcMethod(self._embed),
            "ListBackends": GrpcMethod(self._list_backends, permission="key"),
            "HealthCheck": GrpcMethod(self._health_check, permission="key"),
            "ExecutePipeline": GrpcMethod(self._execute),
            "ExecutePipelineStream": GrpcMethod(self._execute_stream, server_streaming=True),
        }
        return {f"/{SERVICE}/{name}": method for name, method in methods.items()}

    def _generate(self, call: GrpcCall, message: bytes) -> None:
        self._run_generate(call, message, stream=False)

    def _generate_stream(self, call: GrpcCall, message: bytes) -> None:
        self._run_generate(call, message, stream=True)

    def _run_generate(self, call: GrpcCall, message: bytes, *, stream: bool) -> None:
        service, facts = self._service, _read_facts(call)
        request_id = facts.request_id or service.make_request_id()
        try:
            request = _parse(compute_pb2.GenerateRequest, message)
            job = read_generate(request, facts, request_id, service.now_s(), stream=stream)
            if not job.model.strip() and not service.name_default(job):
                raise ProxyError(ErrorKind.INVALID_REQUEST, "model must not be empty")
        except ProxyError as error:
            fail_call(call, error, request_id)
            return
        job.caller = call.caller
        answer = StreamAnswer(call, request_id) if stream else GenerateAnswer(call, request_id)
        answer.attach(service.submit(job, answer))

    def _embed(self, call: GrpcCall, message: bytes) -> None:
        service, facts = self._service, _read_facts(call)
        request_id = facts.request_id or service.make_request_id()
        try:
            request = _parse(compute_pb2.EmbedRequest, message)
            job = read_embed(request, facts, request_id, service.now_s())
            if not job.model.strip() and not service.name_default(job):
                raise ProxyError(ErrorKind.INVALID_REQUEST, "model must not be empty")
        except ProxyError as error:
            fail_call(call, error, request_id)
            return
        job.caller = call.caller
        answer = EmbedAnswer(call, request_id)
        answer.attach(service.submit(job, answer))

    def _execute(self, call: GrpcCall, message: bytes) -> None:
        self._run_pipeline(call, message, stream=False)

    def _execute_stream(self, call: GrpcCall, message: bytes) -> None:
        self._run_pipeline(call, message, stream=True)

    def _run_pipeline(self, call: GrpcCall, message: bytes, *, stream: bool) -> None:
        facts = _read_facts(call)
        request_id = facts.request_id or self._service.make_request_id()
        try:
            wish = read_wish(_parse(compute_pb2.ExecutePipelineRequest, message), facts, request_id, call.caller)
            if self._pipelines is None:
                told = f"there is no pipeline {wish.pipeline[:64]!r}: none are configured (pipelines.config_file)"
                raise ProxyError(ErrorKind.NOT_FOUND, told)
        except ProxyError as error:
            fail_call(call, error, request_id)
            return
        PipelineAnswer(call, request_id, stream=stream).start(self._pipelines, wish)

    def _list_backends(self, call: GrpcCall, message: bytes) -> None:
        request_id = _read_facts(call).request_id or self._service.make_request_id()
        try:
            wanted = _parse(compute_pb2.ListBackendsRequest, message).type_filter
        except ProxyError as error:
            fail_call(call, error, request_id)
            return
        fleet = call.caller.see(self._service.fleet())
        backends = [describe_backend(view) for view in fleet.backends if not wanted or view.spec.kind == wanted]
        answer = compute_pb2.ListBackendsResponse(backends=backends)
        call.respond(answer.SerializeToString(), encode_request_id(request_id))

    def _health_check(self, call: GrpcCall, message: bytes) -> None:
        request_id = _read_facts(call).request_id or self._service.make_request_id()
        try:
            if message:
                _parse(compute_pb2.HealthCheckRequest, message)
        except ProxyError as error:
            fail_call(call, error, request_id)
            return
        fleet = call.caller.see(self._service.fleet())
        call.respond(self._health.write(fleet), encode_request_id(request_id))


def _read_facts(call: GrpcCall) -> HeadFacts:
    notes = call.notes
    facts: HeadFacts | None = notes.get(HeadFacts)
    if facts is None:
        facts = notes[HeadFacts] = HeadFacts(call.metadata, call.protocol)
    return facts


def _parse(kind: type[M], message: bytes) -> M:
    try:
        return kind.FromString(message)
    except DecodeError:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"the message is not a {kind.__name__}") from None


class _HealthAnswer:
    """The message of `HealthCheck`, kept for as long as it stays the same: a second at most."""

    __slots__ = ("_message", "_unix_s", "_view")

    def __init__(self) -> None:
        self._view: FleetView | None = None
        self._unix_s = 0
        self._message = b""

    def write(self, view: FleetView) -> bytes:
        """The answer at this moment."""
        now_unix_s = int(time.time())
        if view is not self._view or now_unix_s != self._unix_s:
            self._view, self._unix_s = view, now_unix_s
            self._message = compute_pb2.HealthCheckResponse(
                status=sum_up(view),
                backend_health={backend.id: describe_health(backend) for backend in view.backends},
                timestamp_unix=now_unix_s,
            ).SerializeToString()
        return self._message


def sum_up(view: FleetView) -> str:
    """`healthy`, `degraded` (some backend is not) or `unhealthy` (none is)."""
    serving = [backend for backend in view.backends if backend.health.serves]
    if not serving:
        return "unhealthy"
    return "healthy" if all(backend.health is Health.HEALTHY for backend in view.backends) else "degraded"


def describe_health(view: BackendView) -> str:
    """The contract's word for a backend's state."""
    return "offline" if view.health is Health.UNKNOWN else view.health.value


def describe_backend(view: BackendView) -> compute_pb2.BackendInfo:
    """One backend as `ListBackends` shows it."""
    models = view.models or {}
    return compute_pb2.BackendInfo(
        id=view.id,
        type=view.spec.kind,
        name=view.spec.name,
        hardware=view.spec.hardware,
        status=compute_pb2.BackendStatus(
            state=describe_health(view), message=view.message, last_check_unix=view.checked_unix_s
        ),
        capabilities=compute_pb2.BackendCapabilities(
            generate=Need.GENERATE in view.capabilities,
            embed=Need.EMBED in view.capabilities,
            stream=Need.GENERATE in view.capabilities,
            models=[facts.name for facts in models.values()],
            max_context=as_int32(max((facts.context_length for facts in models.values()), default=0)),
        ),
        metrics=compute_pb2.BackendMetrics(
            avg_latency_ms=as_int32(view.avg_latency_ms or view.spec.avg_latency_ms),
            requests_per_minute=view.requests_per_minute,
            error_rate=view.error_rate,
            power_watts=view.spec.power_watts,
            loaded_models=sorted(view.loaded),
        ),
    )
