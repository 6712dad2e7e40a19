"""Requests of `compute.v1` as calls: options checked, annotations read by the one parser."""

from __future__ import annotations

from collections.abc import Sequence

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations, annotation_headers, parse_annotations
from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation, Need, Operation, Sampling
from ollama_proxy.domain.errors import ErrorKind, ProxyError

Metadata = Sequence[tuple[str, str | bytes]]
_GENERATE = frozenset((Need.GENERATE,))
_EMBED = frozenset((Need.EMBED,))
#: Bound once: reading a member of an enumeration is a call.
_COMPUTE = Dialect.COMPUTE
_GENERATION, _EMBEDDING = Operation.GENERATE, Operation.EMBED
_NO_SAMPLING = Sampling()


class HeadFacts:
    """What the metadata of a call says to us. Calls with equal heads share it."""

    __slots__ = ("annotations", "protocol", "request_id")

    def __init__(self, metadata: Metadata, protocol: str = "grpc") -> None:
        self.protocol = protocol
        texts = [(name, value) for name, value in metadata if isinstance(value, str)]
        #: Pairs to be read together with those of the message.
        self.annotations = annotation_headers((name.encode(), value.encode()) for name, value in texts)
        ids = (value for name, value in texts if name == "x-request-id" and 0 < len(value) <= _MAX_ID_CHARS)
        #: Empty where the client leaves it to us.
        self.request_id = next(ids, "")


_MAX_ID_CHARS = 128


def read_generate(
    request: compute_pb2.GenerateRequest, facts: HeadFacts, request_id: str, now_s: float, *, stream: bool
) -> Call:
    """The call of Generate or GenerateStream."""
    prompt, model = request.prompt, request.model
    if not prompt:
        raise _refuse("prompt must not be empty")
    sampling = read_sampling(request.options) if request.HasField("options") else _NO_SAMPLING
    wishes = request.annotations if request.HasField("annotations") else None
    return Call(
        request_id,
        _COMPUTE,
        _GENERATION,
        model,
        stream,
        now_s,
        lambda: Generation(prompt, sampling=sampling),
        read_annotations(wishes, facts),
        _GENERATE,
        len(prompt.encode()),
        sampling.num_predict or 0,
        way_in=facts.protocol + (" GenerateStream" if stream else " Generate"),
    )


def read_embed(request: compute_pb2.EmbedRequest, facts: HeadFacts, request_id: str, now_s: float) -> Call:
    """The call of Embed."""
    text, model = request.text, request.model
    if not text:
        raise _refuse("text must not be empty")
    wishes = request.annotations if request.HasField("annotations") else None
    return Call(
        request_id,
        _COMPUTE,
        _EMBEDDING,
        model,
        stream=False,
        arrived_s=now_s,
        typed=lambda: Embedding((text,)),
        annotations=read_annotations(wishes, facts),
        needs=_EMBED,
        prompt_bytes=len(text.encode()),
        way_in=f"{facts.protocol} Embed",
    )


def read_sampling(options: compute_pb2.GenerationOptions) -> Sampling:
    """Sampling options; a field left at zero means the model's own."""
    most_tokens, temperature, top_p, top_k = options.max_tokens, options.temperature, options.top_p, options.top_k
    context = options.context_length
    if most_tokens < 0:
        raise _refuse(f"options.max_tokens is {most_tokens}; expected 0 or more")
    if not 0 <= temperature <= 2:
        raise _refuse(f"options.temperature is {temperature:g}; expected 0 to 2")
    if not 0 <= top_p <= 1:
        raise _refuse(f"options.top_p is {top_p:g}; expected 0 to 1")
    if top_k < 0:
        raise _refuse(f"options.top_k is {top_k}; expected 0 or more")
    if context < 0:
        raise _refuse(f"options.context_length is {context}; expected 0 or more")
    return Sampling(
        num_predict=most_tokens or None,
        temperature=temperature or None,
        top_p=top_p or None,
        top_k=top_k or None,
        stop=tuple(options.stop) or None,
        num_ctx=context or None,
    )


def read_annotations(wishes: compute_pb2.JobAnnotations | None, facts: HeadFacts) -> Annotations:
    """Annotations of the message, then of the metadata, which win. Negative limits are refused."""
    if wishes is None:
        return parse_annotations(facts.annotations) if facts.annotations else NO_ANNOTATIONS
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
    return parse_annotations([*pairs, *facts.annotations])


def _refuse(message: str) -> ProxyError:
    return ProxyError(ErrorKind.INVALID_REQUEST, message)
