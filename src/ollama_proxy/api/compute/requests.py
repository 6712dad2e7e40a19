"""Requests of `compute.v1` as calls: options checked, annotations read by the one parser."""

from __future__ import annotations

from collections.abc import Sequence

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.domain.annotations import Annotations, annotation_headers, parse_annotations
from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation, Need, Operation, Sampling
from ollama_proxy.domain.errors import ErrorKind, ProxyError

Metadata = Sequence[tuple[str, str | bytes]]


def read_generate(
    request: compute_pb2.GenerateRequest, metadata: Metadata, request_id: str, now_s: float, *, stream: bool
) -> Call:
    """The call of Generate or GenerateStream."""
    if not request.prompt:
        raise _refuse("prompt must not be empty")
    if not request.model.strip():
        raise _refuse("model must not be empty")
    sampling = read_sampling(request.options)
    prompt = request.prompt
    return Call(
        request_id=request_id,
        dialect=Dialect.COMPUTE,
        operation=Operation.GENERATE,
        model=request.model,
        stream=stream,
        arrived_s=now_s,
        typed=lambda: Generation(prompt=prompt, sampling=sampling),
        annotations=read_annotations(request.annotations, metadata),
        needs=frozenset((Need.GENERATE,)),
        prompt_bytes=len(prompt.encode()),
        max_tokens=sampling.num_predict or 0,
        way_in="grpc GenerateStream" if stream else "grpc Generate",
    )


def read_embed(request: compute_pb2.EmbedRequest, metadata: Metadata, request_id: str, now_s: float) -> Call:
    """The call of Embed."""
    if not request.text:
        raise _refuse("text must not be empty")
    if not request.model.strip():
        raise _refuse("model must not be empty")
    text = request.text
    return Call(
        request_id=request_id,
        dialect=Dialect.COMPUTE,
        operation=Operation.EMBED,
        model=request.model,
        stream=False,
        arrived_s=now_s,
        typed=lambda: Embedding((text,)),
        annotations=read_annotations(request.annotations, metadata),
        needs=frozenset((Need.EMBED,)),
        prompt_bytes=len(text.encode()),
        way_in="grpc Embed",
    )


def read_sampling(options: compute_pb2.GenerationOptions) -> Sampling:
    """Sampling options; a field left at zero means the model's own."""
    if options.max_tokens < 0:
        raise _refuse(f"options.max_tokens is {options.max_tokens}; expected 0 or more")
    if not 0 <= options.temperature <= 2:
        raise _refuse(f"options.temperature is {options.temperature:g}; expected 0 to 2")
    if not 0 <= options.top_p <= 1:
        raise _refuse(f"options.top_p is {options.top_p:g}; expected 0 to 1")
    if options.top_k < 0:
        raise _refuse(f"options.top_k is {options.top_k}; expected 0 or more")
    if options.context_length < 0:
        raise _refuse(f"options.context_length is {options.context_length}; expected 0 or more")
    return Sampling(
        num_predict=options.max_tokens or None,
        temperature=options.temperature or None,
        top_p=options.top_p or None,
        top_k=options.top_k or None,
        stop=tuple(options.stop) or None,
        num_ctx=options.context_length or None,
    )


def read_annotations(wishes: compute_pb2.JobAnnotations, metadata: Metadata) -> Annotations:
    """Annotations of the message, then of the metadata, which win. Negative limits are refused."""
    pairs: list[tuple[str, object]] = [(f"custom.{name}", value) for name, value in wishes.custom.items()]
    if wishes.target:
        pairs.append(("target", wishes.target))
    for name in ("latency_critical", "prefer_power_efficiency", "cache_enabled"):
        if getattr(wishes, name):
            pairs.append((name, True))
    for name in ("max_latency_ms", "max_power_watts"):
        value = getattr(wishes, name)
        if value:
            pairs.append((name, value))
    headers = [(name.encode(), value.encode()) for name, value in metadata if isinstance(value, str)]
    pairs += annotation_headers(headers)
    return parse_annotations(pairs)


def _refuse(message: str) -> ProxyError:
    return ProxyError(ErrorKind.INVALID_REQUEST, message)
