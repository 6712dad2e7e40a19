"""Typed calls as native Ollama requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ollama_proxy.domain.call import Call, Continued, Embedding, Generation, Message, Operation, Sampling
from ollama_proxy.net.bodies.open_turn import leave_open

_CHAT = Operation.CHAT
_NO_SAMPLING = Sampling()
_TRIAL_TOKENS = 4
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
    render_only: bool = msgspec.field(default=False, name="_debug_render_only")


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
    """Path and document of the native request for a typed call, as if it asked for the whole answer."""
    typed = call.typed()
    if isinstance(typed, Embedding):
        return b"/api/embed", _encode_embedding(typed, model)
    return _encode_generation(typed, model, call.operation, stream=call.stream)


def _encode_generation(
    typed: Generation, model: str, operation: Operation, *, stream: bool
) -> tuple[bytes, _Generate | _Chat]:
    if typed.messages or operation is _CHAT:
        chat = _encode_chat(typed, model, stream=stream)
        _complete(chat, typed)
        return b"/api/chat", chat
    document = _Generate(
        model,
        stream,
        prompt=typed.prompt,
        suffix=typed.suffix,
        system=typed.system,
        template=typed.template,
        raw=typed.raw,
        images=typed.images,
        context=typed.context,
    )
    _complete(document, typed)
    return b"/api/generate", document


# -- the rest of an answer that broke off --------------------------------------


def encode_rendering(typed: Generation, model: str, operation: Operation) -> tuple[bytes, msgspec.Struct]:
    """What has the server write down the whole prompt as the model would read it, and answer nothing.

    One that does not know the question answers the prompt; a token of that is enough.
    """
    little = msgspec.structs.replace(typed, sampling=msgspec.structs.replace(typed.sampling, num_predict=1))
    path, document = _encode_generation(little, model, operation, stream=False)
    document.render_only = True
    return path, document


def encode_behind_prompt(typed: Generation, model: str, prompt: str) -> tuple[bytes, msgspec.Struct]:
    """A prompt as the model reads it, with the answer so far at its end. The server's own stops and options hold."""
    images = typed.images + tuple(image for message in typed.messages for image in message.images)
    document = _Generate(model, stream=True, prompt=prompt, raw=True, images=images)
    document.keep_alive, document.options = typed.keep_alive, encode_options(typed.sampling)
    return b"/api/generate", document


def encode_open_turn(typed: Generation, model: str, sent: Continued) -> tuple[bytes, msgspec.Struct]:
    """A chat that ends in the answer so far, which the server may leave open or not: it depends on the model."""
    messages = typed.messages
    if not messages:
        system = (Message("system", typed.system),) if typed.system else ()
        messages = (*system, Message("user", typed.prompt, images=typed.images))
    chat = _encode_chat(msgspec.structs.replace(typed, messages=leave_open(messages, sent)), model, stream=True)
    _complete(chat, typed)
    return b"/api/chat", chat


def encode_trial(model: str, keep_alive: Any) -> tuple[bytes, msgspec.Struct]:
    """A turn that is cut where everybody knows what follows: 4, if the model goes on with it."""
    turns = [_Turn("user", "Count from 1 to 10, with commas."), _Turn("assistant", "1, 2, 3,")]
    options = Sampling(num_predict=_TRIAL_TOKENS, temperature=0.0)
    return b"/api/chat", _Chat(model, stream=False, messages=turns, options=options, keep_alive=keep_alive)


def _complete(document: _Asked, typed: Generation) -> None:
    """Fill in the members that both kinds have."""
    document.format = typed.format
    document.think = typed.think
    document.keep_alive = typed.keep_alive
    document.options = encode_options(typed.sampling)
    document.logprobs = typed.logprobs
    document.top_logprobs = typed.top_logprobs


def _encode_embedding(typed: Embedding, model: str) -> _Embed:
    options = typed.options or None
    return _Embed(model, typed.inputs, typed.dimensions, typed.truncate, typed.keep_alive, options)


def _encode_chat(typed: Generation, model: str, *, stream: bool) -> _Chat:
    tools = typed.tools if typed.tool_choice != "none" else ()
    return _Chat(model, stream, messages=[_encode_message(message) for message in typed.messages], tools=tools)


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
