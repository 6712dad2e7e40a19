"""Typed calls as native Ollama requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ollama_proxy.domain.call import Call, Continued, Embedding, Generation, Message, Operation, Sampling

_CHAT = Operation.CHAT
_NO_SAMPLING = Sampling()
_OPTIONS = tuple(name for name in Sampling.__struct_fields__ if name != "extra")


class _Asked(msgspec.Struct, omit_defaults=True, gc=False):
    """What both kinds of requests for text have; what is at its default stays out."""

    model: str
    stream: bool
    format: Any = None
    think: bool | str | None = None
    keep_alive: Any = None
    options: Sampling | Mapping[str, Any] | None = None
    logprobs: bool = False
    top_logprobs: int = 0


class _Generate(_Asked):
    # Required members stand behind optional ones here, so this one is optional by its form only.
    prompt: str | None = None
    suffix: str = ""
    system: str = ""
    template: str = ""
    raw: bool = False
    images: tuple[str, ...] = ()
    context: tuple[int, ...] = ()


class _Chat(_Asked):
    messages: list[_Turn] | None = None
    tools: tuple[Any, ...] = ()


class _Function(msgspec.Struct):
    name: str
    arguments: msgspec.Raw


class _Use(msgspec.Struct):
    id: str
    function: _Function


class _Turn(msgspec.Struct, omit_defaults=True):
    role: str
    content: str
    thinking: str = ""
    images: tuple[str, ...] = ()
    tool_calls: list[_Use] | None = None
    tool_name: str = ""
    tool_call_id: str = ""


class _Embed(msgspec.Struct, omit_defaults=True):
    model: str
    input: tuple[str, ...]
    dimensions: int | None = None
    truncate: bool | None = None
    keep_alive: Any = None
    options: Mapping[str, Any] | None = None


def encode_request(call: Call, model: str) -> tuple[bytes, msgspec.Struct]:
    """Path and document of the native request for a typed call."""
    typed = call.typed()
    if isinstance(typed, Embedding):
        return b"/api/embed", _encode_embedding(typed, model)
    if call.continued is not None:
        typed = _behind(typed, call.continued)
    if typed.messages or call.operation is _CHAT:
        return b"/api/chat", _complete(_encode_chat(call, typed, model), typed)
    document = _Generate(
        model,
        call.stream,
        prompt=typed.prompt,
        suffix=typed.suffix,
        system=typed.system,
        template=typed.template,
        raw=typed.raw,
        images=typed.images,
        context=typed.context,
    )
    return b"/api/generate", _complete(document, typed)


def _behind(typed: Generation, sent: Continued) -> Generation:
    """What asks for the rest: a raw prompt that ends in the answer so far, or a chat whose last turn is left open."""
    if typed.raw:
        return msgspec.structs.replace(typed, prompt=typed.prompt + sent.text)
    messages = typed.messages
    if not messages:
        system = (Message("system", typed.system),) if typed.system else ()
        messages = (*system, Message("user", typed.prompt, images=typed.images))
    messages = (*messages, Message("assistant", sent.text, sent.thinking))
    return msgspec.structs.replace(typed, messages=messages, prompt="", system="", images=())


def _complete(document: _Asked, typed: Generation) -> _Asked:
    """With the members that both kinds have."""
    document.format = typed.format
    document.think = typed.think
    document.keep_alive = typed.keep_alive
    document.options = encode_options(typed.sampling)
    document.logprobs = typed.logprobs
    document.top_logprobs = typed.top_logprobs
    return document


def _encode_embedding(typed: Embedding, model: str) -> _Embed:
    options = typed.options or None
    return _Embed(model, typed.inputs, typed.dimensions, typed.truncate, typed.keep_alive, options)


def _encode_chat(call: Call, typed: Generation, model: str) -> _Chat:
    tools = typed.tools if typed.tool_choice != "none" else ()
    return _Chat(model, call.stream, messages=[_encode_message(message) for message in typed.messages], tools=tools)


def _encode_message(message: Message) -> _Turn:
    uses = [
        _Use(use.id, _Function(use.name, msgspec.Raw(use.arguments.encode() or b"{}"))) for use in message.tool_uses
    ]
    return _Turn(
        message.role,
        message.content,
        message.thinking,
        message.images,
        uses or None,
        message.tool_name,
        message.tool_call_id,
    )


def encode_options(sampling: Sampling) -> Sampling | Mapping[str, Any] | None:
    """Ollama's `options`: the names are its own, so what needs no more is written as it is."""
    if sampling.extra:
        known = {name: value for name in _OPTIONS if (value := getattr(sampling, name)) is not None}
        return {**known, **sampling.extra}
    return sampling if sampling != _NO_SAMPLING else None
