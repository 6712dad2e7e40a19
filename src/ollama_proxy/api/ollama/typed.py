"""Whole requests of Ollama's API as every backend can understand them: made only when an attempt must translate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ollama_proxy.api.ollama.go_types import CHAT, EMBED, EMBEDDINGS, GENERATE, check_effort, read_request
from ollama_proxy.domain.call import Embedding, Generation, Message, Operation, Sampling, ToolUse
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.conversation_length import check_messages
from ollama_proxy.net.bodies.go_json import GoType
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.http_request import decode_body

T = TypeVar("T")

_OF_GENERATE = Operation.GENERATE
_MOST_TOP_LOGPROBS = 20


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
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    raw: bool | None = None
    images: tuple[str, ...] | None = None
    context: tuple[int, ...] | None = None
    messages: list[_Message] | None = None
    tools: list[Any] | None = None
    format: Any = None
    think: bool | str | None = None
    keep_alive: Any = None
    options: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


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


def read_typed(body: bytes, operation: Operation) -> Generation:
    """The typed form of a generate or chat request. Raises `ProxyError` in Ollama's words."""
    kind = GENERATE if operation is _OF_GENERATE else CHAT
    check_messages(body)
    request = _decode_typed(_requests, body, kind)
    check_top_logprobs(request.top_logprobs)
    if isinstance(request.think, str):
        check_effort(request.think)
    return Generation(
        prompt=request.prompt or "",
        suffix=request.suffix or "",
        system=request.system or "",
        template=request.template or "",
        raw=bool(request.raw),
        images=request.images or (),
        context=request.context or (),
        messages=tuple(_typed_message(message) for message in request.messages or ()),
        sampling=read_sampling(request.options or {}),
        tools=tuple(request.tools or ()),
        format=request.format or None,
        think=request.think,
        keep_alive=request.keep_alive,
        logprobs=bool(request.logprobs),
        top_logprobs=request.top_logprobs or 0,
    )


def check_top_logprobs(count: object) -> None:
    """Raises `ProxyError` when Ollama would refuse the number."""
    if isinstance(count, int) and not 0 <= count <= _MOST_TOP_LOGPROBS:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "top_logprobs must be between 0 and 20")


def _decode_typed(decoder: msgspec.json.Decoder[T], body: bytes, kind: GoType) -> T:
    """A whole request; what the ordinary decoder cannot read is read as Ollama reads it."""
    try:
        return decoder.decode(body)
    except UNREADABLE:
        return decode_body(decoder, msgspec.json.encode(read_request(body, kind)))


def _read_raw(text: msgspec.Raw) -> str:
    """JSON that nobody has looked into: bytes that are no UTF-8 become U+FFFD, as in Go."""
    return bytes(text).decode(errors="replace")


def _typed_message(message: _Message) -> Message:
    uses = tuple(
        ToolUse(use.function.name, _read_raw(use.function.arguments), use.id) for use in message.tool_calls or ()
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
    request = _decode_typed(_embed_requests, body, EMBED)
    inputs = (request.input,) if isinstance(request.input, str) else request.input or ()
    return Embedding(inputs, request.dimensions, request.truncate, request.keep_alive, request.options or {})


def read_typed_embeddings(body: bytes) -> Embedding:
    """The typed form of `/api/embeddings`."""
    request = _decode_typed(_embed_requests, body, EMBEDDINGS)
    inputs = (request.prompt,) if request.prompt else ()
    return Embedding(inputs, None, None, request.keep_alive, request.options or {})
