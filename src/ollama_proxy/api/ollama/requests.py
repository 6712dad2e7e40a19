"""Requests of Ollama's API: the routing facts at once, the whole typed request only when an attempt must translate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ollama_proxy.domain.call import (
    Call,
    Dialect,
    Embedding,
    Generation,
    Message,
    Need,
    Operation,
    RawRequest,
    Sampling,
    ToolUse,
)
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import decode_body, read_annotations, read_raw_head

_OLLAMA = Dialect.OLLAMA
_OF_GENERATE = Operation.GENERATE
_GENERATE = frozenset((Need.GENERATE,))
_EMBED = frozenset((Need.EMBED,))
_SHOW = frozenset((Need.SHOW,))


class _FactOptions(msgspec.Struct):
    num_predict: float | None = None
    routing: dict[str, Any] | None = None


class _Facts(msgspec.Struct):
    model: str = ""
    stream: bool | None = None
    prompt: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    suffix: str | None = None
    template: str | None = None
    raw: bool | None = None
    images: list[msgspec.Raw] | None = None
    context: list[msgspec.Raw] | None = None
    options: _FactOptions | None = None


class _EmbedFacts(msgspec.Struct):
    model: str = ""
    input: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    options: _FactOptions | None = None


class _ShowFacts(msgspec.Struct):
    model: str = ""
    name: str = ""


_NO_OPTIONS = _FactOptions()
_facts = msgspec.json.Decoder(_Facts)
_embed_facts = msgspec.json.Decoder(_EmbedFacts)
_show_facts = msgspec.json.Decoder(_ShowFacts)


def read_generation(exchange: Exchange, operation: Operation, request_id: str, now_s: float) -> Call:
    """The call of `/api/generate` or `/api/chat`."""
    body = exchange.body
    facts = decode_body(_facts, body)
    options = facts.options or _NO_OPTIONS
    limit = options.num_predict or 0
    return Call(
        request_id,
        _OLLAMA,
        operation,
        facts.model,
        facts.stream is not False,
        now_s,
        lambda: read_typed(body),
        read_annotations(exchange, options.routing),
        _generate_needs(facts) if operation is _OF_GENERATE else _chat_needs(body),
        len(facts.prompt) + len(facts.messages),
        int(limit) if limit > 0 else 0,
        RawRequest(read_raw_head(exchange), body),
        way_in=exchange.path.decode("ascii"),
    )


def _chat_needs(body: bytes) -> frozenset[Need]:
    return _GENERATE | {Need.IMAGES} if b'"images"' in body else _GENERATE


def _generate_needs(facts: _Facts) -> frozenset[Need]:
    needs = set()
    if facts.suffix:
        needs.add(Need.SUFFIX)
    if facts.template:
        needs.add(Need.TEMPLATE)
    if facts.raw:
        needs.add(Need.RAW_PROMPT)
    if facts.context:
        needs.add(Need.CONTEXT)
    if facts.images:
        needs.add(Need.IMAGES)
    return _GENERATE | needs if needs else _GENERATE


def read_embed(exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of `/api/embed`."""
    return _read_embedding(exchange, request_id, now_s, read_typed_embed)


def read_embeddings(exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of the older `/api/embeddings`."""
    return _read_embedding(exchange, request_id, now_s, read_typed_embeddings)


def _read_embedding(exchange: Exchange, request_id: str, now_s: float, typed: Any) -> Call:
    body = exchange.body
    facts = decode_body(_embed_facts, body)
    return Call(
        request_id=request_id,
        dialect=Dialect.OLLAMA,
        operation=Operation.EMBED,
        model=facts.model,
        stream=False,
        arrived_s=now_s,
        typed=lambda: typed(body),
        annotations=read_annotations(exchange, facts.options.routing if facts.options else None),
        needs=_EMBED,
        prompt_bytes=len(facts.input) + len(facts.prompt),
        raw=RawRequest(read_raw_head(exchange), exchange.body),
        way_in=exchange.path.decode("ascii"),
    )


def read_show(exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of `/api/show`; `name` is the older word for `model`."""
    facts = decode_body(_show_facts, exchange.body)
    return Call(
        request_id=request_id,
        dialect=Dialect.OLLAMA,
        operation=Operation.SHOW,
        model=facts.model or facts.name,
        stream=False,
        arrived_s=now_s,
        typed=Generation,
        annotations=read_annotations(exchange),
        needs=_SHOW,
        raw=RawRequest(read_raw_head(exchange), exchange.body),
        way_in="/api/show",
    )


# -- the whole request ---------------------------------------------------------


class _UseFunction(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Use(msgspec.Struct):
    function: _UseFunction
    id: str = ""


class _Message(msgspec.Struct):
    role: str = ""
    content: str | None = None
    thinking: str | None = None
    images: tuple[str, ...] | None = None
    tool_calls: list[_Use] | None = None
    tool_name: str = ""
    tool_call_id: str = ""


class _Request(msgspec.Struct):
    prompt: str = ""
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    raw: bool = False
    images: tuple[str, ...] | None = None
    context: tuple[int, ...] | None = None
    messages: list[_Message] | None = None
    tools: list[Any] | None = None
    format: Any = None
    think: bool | str | None = None
    keep_alive: Any = None
    options: dict[str, Any] | None = None
    logprobs: bool = False
    top_logprobs: int = 0


class _EmbedRequest(msgspec.Struct):
    input: str | tuple[str, ...] | None = None
    prompt: str | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    keep_alive: Any = None
    options: dict[str, Any] | None = None


_requests = msgspec.json.Decoder(_Request)
_embed_requests = msgspec.json.Decoder(_EmbedRequest)
_SAMPLING_FIELDS = frozenset(Sampling.__struct_fields__) - {"extra"}


def read_typed(body: bytes) -> Generation:
    """The typed form of a generate or chat request."""
    request = decode_body(_requests, body)
    return Generation(
        prompt=request.prompt,
        suffix=request.suffix or "",
        system=request.system or "",
        template=request.template or "",
        raw=request.raw,
        images=request.images or (),
        context=request.context or (),
        messages=tuple(_typed_message(message) for message in request.messages or ()),
        sampling=read_sampling(request.options or {}),
        tools=tuple(request.tools or ()),
        format=request.format or None,
        think=request.think,
        keep_alive=request.keep_alive,
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
    )


def _typed_message(message: _Message) -> Message:
    uses = tuple(
        ToolUse(use.function.name, bytes(use.function.arguments).decode(), use.id) for use in message.tool_calls or ()
    )
    return Message(
        role=message.role.lower(),
        content=message.content or "",
        thinking=message.thinking or "",
        images=message.images or (),
        tool_uses=uses,
        tool_call_id=message.tool_call_id,
        tool_name=message.tool_name,
    )


def read_sampling(options: Mapping[str, Any]) -> Sampling:
    """Ollama's `options`; what we have no name for is kept in `extra`."""
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in options.items():
        if name == "routing" or value is None:
            continue
        if name in _SAMPLING_FIELDS:
            # Numbers arrive as JSON floats; whole ones are good for integer options.
            whole = isinstance(value, float) and value.is_integer() and name not in ("temperature", "top_p", "min_p")
            known[name] = int(value) if whole else value
        else:
            extra[name] = value
    if isinstance(known.get("stop"), str):
        known["stop"] = [known["stop"]]
    try:
        return msgspec.convert({**known, "extra": extra}, Sampling)
    except msgspec.ValidationError as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid option: {error}") from None


def read_typed_embed(body: bytes) -> Embedding:
    """The typed form of `/api/embed`."""
    request = decode_body(_embed_requests, body)
    inputs = (request.input,) if isinstance(request.input, str) else request.input or ()
    return Embedding(inputs, request.dimensions, request.truncate, request.keep_alive, request.options or {})


def read_typed_embeddings(body: bytes) -> Embedding:
    """The typed form of `/api/embeddings`."""
    request = decode_body(_embed_requests, body)
    inputs = (request.prompt,) if request.prompt else ()
    return Embedding(inputs, None, None, request.keep_alive, request.options or {})
