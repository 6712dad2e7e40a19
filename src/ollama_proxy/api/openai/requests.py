"""Requests of OpenAI's API: the routing facts at once, the whole typed request only when an attempt must translate."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.domain.annotations import Annotations
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
from ollama_proxy.net.http_request import decode_body, read_annotations, read_raw_head, without_key

#: `metadata` belongs to the client; only these members of it are ours to read.
_METADATA_KEYS = frozenset(Annotations.__struct_fields__) - {"custom"}


class _StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Facts(msgspec.Struct):
    model: str = ""
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    routing: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class _EmbedFacts(msgspec.Struct):
    model: str = ""
    input: msgspec.Raw = msgspec.Raw(b"")
    encoding_format: str | None = None
    routing: dict[str, Any] | None = None


_OPENAI = Dialect.OPENAI
_CHAT, _COMPLETE = Operation.CHAT, Operation.COMPLETE
_GENERATE = frozenset((Need.GENERATE,))
_WITH_IMAGES = frozenset((Need.GENERATE, Need.IMAGES))
_EMBED = frozenset((Need.EMBED,))
_facts = msgspec.json.Decoder(_Facts)
_embed_facts = msgspec.json.Decoder(_EmbedFacts)


def read_completion(exchange: Exchange, operation: Operation, request_id: str, now_s: float) -> tuple[Call, bool]:
    """The call of `/v1/chat/completions` or `/v1/completions`, and whether usage is wanted at the end of a stream."""
    body = exchange.body
    facts = decode_body(_facts, body)
    if operation is _CHAT and not facts.messages:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "messages is required")
    if operation is _COMPLETE and not facts.prompt:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "prompt is required")
    limit = facts.max_completion_tokens or facts.max_tokens or 0
    call = Call(
        request_id,
        _OPENAI,
        operation,
        facts.model,
        facts.stream is True,
        now_s,
        lambda: read_typed(body),
        _read_annotations(exchange, facts.routing, facts.metadata)
        if facts.routing or facts.metadata
        else read_annotations(exchange),
        _WITH_IMAGES if b'"image_url"' in body else _GENERATE,
        len(facts.messages) + len(facts.prompt),
        limit if limit > 0 else 0,
        _raw(exchange, with_routing=True) if facts.routing is not None else RawRequest(read_raw_head(exchange), body),
        # Ollama's own /v1 layer ignores this field.
        raw_needs_native=facts.max_completion_tokens is not None and facts.max_tokens is None,
        way_in=exchange.path.decode("ascii"),
    )
    return call, facts.stream_options is not None and facts.stream_options.include_usage


def read_embedding(exchange: Exchange, request_id: str, now_s: float) -> tuple[Call, bool]:
    """The call of `/v1/embeddings`, and whether vectors go out as base64."""
    body = exchange.body
    facts = decode_body(_embed_facts, body)
    if not facts.input:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "input is required")
    call = Call(
        request_id,
        Dialect.OPENAI,
        Operation.EMBED,
        facts.model,
        stream=False,
        arrived_s=now_s,
        typed=lambda: read_typed_embedding(body),
        annotations=_read_annotations(exchange, facts.routing, None),
        needs=_EMBED,
        prompt_bytes=len(facts.input),
        raw=_raw(exchange, with_routing=facts.routing is not None),
        way_in="/v1/embeddings",
    )
    return call, facts.encoding_format == "base64"


def _read_annotations(
    exchange: Exchange, routing: dict[str, Any] | None, metadata: dict[str, Any] | None
) -> Annotations:
    ours = {key: value for key, value in metadata.items() if key in _METADATA_KEYS} if metadata else None
    return read_annotations(exchange, ours, routing)


def _raw(exchange: Exchange, *, with_routing: bool) -> RawRequest:
    # Strict servers refuse members they do not know; ours is taken out, the rest goes up as it came.
    body = without_key(exchange.body, "routing") if with_routing else exchange.body
    return RawRequest(read_raw_head(exchange), body)


# -- the whole request ---------------------------------------------------------


class _Function(msgspec.Struct):
    name: str = ""
    arguments: str = ""


class _Use(msgspec.Struct):
    function: _Function
    id: str = ""


class _ImageUrl(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str
    text: str = ""
    image_url: _ImageUrl | None = None


class _Message(msgspec.Struct):
    role: str = "user"
    content: str | list[_Part] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Use] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class _JsonSchema(msgspec.Struct):
    schema: Any = None


class _ResponseFormat(msgspec.Struct):
    type: str = "text"
    json_schema: _JsonSchema | None = None


class _Request(msgspec.Struct):
    messages: list[_Message] | None = None
    prompt: str | None = None
    suffix: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | tuple[str, ...] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    response_format: _ResponseFormat | None = None
    reasoning_effort: str | None = None


class _EmbedRequest(msgspec.Struct):
    input: str | tuple[str, ...]
    dimensions: int | None = None


_requests = msgspec.json.Decoder(_Request)
_embed_requests = msgspec.json.Decoder(_EmbedRequest)


def read_typed(body: bytes) -> Generation:
    """The typed form. OpenAI's defaults (temperature and top_p 1.0) are made explicit: other servers have others."""
    request = decode_body(_requests, body)
    stop = (request.stop,) if isinstance(request.stop, str) else request.stop
    sampling = Sampling(
        num_predict=request.max_completion_tokens or request.max_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        seed=request.seed,
        stop=stop,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
    )
    return Generation(
        prompt=request.prompt or "",
        suffix=request.suffix or "",
        messages=tuple(_typed_message(message) for message in request.messages or ()),
        sampling=sampling,
        tools=tuple(request.tools or ()),
        tool_choice=request.tool_choice,
        format=_typed_format(request.response_format),
        think=_typed_effort(request.reasoning_effort),
    )


def _typed_message(message: _Message) -> Message:
    parts = message.content if isinstance(message.content, list) else []
    text = message.content if isinstance(message.content, str) else "".join(part.text for part in parts)
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=text,
        thinking=message.reasoning or message.reasoning_content or "",
        images=tuple(_image(part) for part in parts if part.image_url is not None),
        tool_uses=tuple(ToolUse(use.function.name, use.function.arguments, use.id) for use in message.tool_calls or ()),
        tool_call_id=message.tool_call_id or "",
        tool_name=message.name or "",
    )


def _image(part: _Part) -> str:
    """The base64 of a data URI. No URL found in a body is ever fetched."""
    url = part.image_url.url if part.image_url else ""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise ProxyError(
            ErrorKind.INVALID_REQUEST, "image_url must be a base64 data URI; remote images are not fetched"
        )
    return data


def _typed_format(wanted: _ResponseFormat | None) -> Any:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return "json"
    if wanted.type == "json_schema" and wanted.json_schema is not None:
        return wanted.json_schema.schema
    raise ProxyError(ErrorKind.INVALID_REQUEST, "response_format: expected text, json_object or json_schema")


def _typed_effort(effort: str | None) -> bool | str | None:
    if effort is None:
        return None
    return False if effort == "none" else "low" if effort == "minimal" else effort


def read_typed_embedding(body: bytes) -> Embedding:
    """The typed form of `/v1/embeddings`; token arrays mean something to their own tokenizer only."""
    request = decode_body(_embed_requests, body)
    inputs = (request.input,) if isinstance(request.input, str) else request.input
    return Embedding(inputs, request.dimensions)
