"""Typed calls as OpenAI requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation, Message, Operation, Sampling, ToolUse

_COMPLETE = Operation.COMPLETE
#: Whose clients expect the defaults of Ollama.
_NATIVE = (Dialect.OLLAMA, Dialect.COMPUTE)
#: Ollama's clients expect Ollama's defaults, which differ from OpenAI's; those every server knows are sent in full.
_NATIVE_TEMPERATURE, _NATIVE_TOP_P = 0.8, 0.9
_WITH_USAGE = {"include_usage": True}


class _Asked(msgspec.Struct, omit_defaults=True, gc=False):
    """What both kinds of requests for text have; what is at its default stays out."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    #: Whether in chats, how many in completions.
    logprobs: bool | int | None = None
    top_logprobs: int = 0
    stream: bool = False
    stream_options: dict[str, Any] | None = None


class _Complete(_Asked):
    # Required members stand behind optional ones here, so this one is optional by its form only.
    prompt: str | None = None


class _Chat(_Asked):
    messages: list[_Turn] | None = None
    tools: tuple[Any, ...] = ()
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _Use(msgspec.Struct):
    id: str
    function: _Function
    type: str = "function"


class _Turn(msgspec.Struct, omit_defaults=True):
    role: str
    content: str | list[dict[str, Any]]
    reasoning_content: str = ""
    tool_calls: list[_Use] | None = None
    tool_call_id: str = ""


class _Embed(msgspec.Struct, omit_defaults=True):
    model: str
    input: tuple[str, ...]
    dimensions: int | None = None


def encode_request(call: Call, model: str, *, stream: bool) -> tuple[bytes, msgspec.Struct]:
    """Path and document for a typed call."""
    typed = call.typed()
    if isinstance(typed, Embedding):
        return b"/embeddings", _Embed(model, typed.inputs, typed.dimensions)
    document: _Asked
    if typed.raw or call.operation is _COMPLETE:
        path, document = b"/completions", _Complete(model, prompt=typed.prompt)
    else:
        path, document = b"/chat/completions", _encode_chat(typed, model)
    _fill_sampling(document, typed.sampling, native=call.dialect in _NATIVE)
    _fill_wishes(document, typed)
    if stream:
        document.stream, document.stream_options = True, _WITH_USAGE
    return path, document


def _encode_chat(typed: Generation, model: str) -> _Chat:
    messages = typed.messages
    if not messages:
        system = (Message("system", typed.system),) if typed.system else ()
        messages = (*system, Message("user", typed.prompt, images=typed.images))
    document = _Chat(model, messages=[_encode_message(message) for message in with_ids(messages)])
    if typed.tools:
        # Strict servers refuse a choice among no tools.
        document.tools, document.tool_choice = typed.tools, typed.tool_choice
        document.parallel_tool_calls = typed.parallel_tools
    return document


def with_ids(messages: Sequence[Message]) -> Iterator[Message]:
    """The same turns with an id on every call of a tool and on its result.

    Ollama's clients need not send any; a result without one belongs to the first call of that name still open, or to
    the first at all.
    """
    made = 0
    pending: list[ToolUse] = []
    for message in messages:
        if message.tool_uses:
            uses = []
            for use in message.tool_uses:
                made += 1
                uses.append(use if use.id else msgspec.structs.replace(use, id=f"call_{made}"))
            pending = list(uses)
            yield msgspec.structs.replace(message, tool_uses=tuple(uses))
        elif message.role == "tool":
            use_of = _find_use(message, pending)
            if use_of is not None:
                pending.remove(use_of)
            ident = message.tool_call_id or (use_of.id if use_of else "")
            yield message if ident == message.tool_call_id else msgspec.structs.replace(message, tool_call_id=ident)
        else:
            yield message


def _find_use(result: Message, pending: Sequence[ToolUse]) -> ToolUse | None:
    if result.tool_call_id:
        return next((use for use in pending if use.id == result.tool_call_id), None)
    named = (use for use in pending if use.name == result.tool_name)
    return next(named, pending[0] if pending else None)


def _encode_message(message: Message) -> _Turn:
    content: str | list[dict[str, Any]] = message.content
    if message.images:
        parts = [{"type": "image_url", "image_url": {"url": image_url(image)}} for image in message.images]
        content = [{"type": "text", "text": message.content}, *parts] if message.content else parts
    uses = [_Use(use.id, _Function(use.name, use.arguments or "{}")) for use in message.tool_uses]
    return _Turn(message.role, content, message.thinking, uses or None, message.tool_call_id)


def image_url(image: str) -> str:
    """A data URI for a base64 image; the media type is told from the first bytes."""
    for start, media in (("iVBORw0KGgo", "png"), ("/9j/", "jpeg"), ("R0lGOD", "gif"), ("UklGR", "webp")):
        if image.startswith(start):
            return f"data:image/{media};base64,{image}"
    return f"data:image/jpeg;base64,{image}"


def _fill_sampling(document: _Asked, sampling: Sampling, *, native: bool) -> None:
    limit, seed, temperature, top_p = sampling.num_predict, sampling.seed, sampling.temperature, sampling.top_p
    if native:
        temperature = _NATIVE_TEMPERATURE if temperature is None else temperature
        top_p = _NATIVE_TOP_P if top_p is None else top_p
    document.max_tokens = limit if limit is not None and limit > 0 else None
    document.temperature = temperature
    document.top_p = top_p
    document.top_k = sampling.top_k
    document.min_p = sampling.min_p
    document.seed = seed if seed is None or seed >= 0 else None
    document.stop = sampling.stop or None
    document.repeat_penalty = sampling.repeat_penalty
    document.presence_penalty = sampling.presence_penalty
    document.frequency_penalty = sampling.frequency_penalty


def _fill_wishes(document: _Asked, typed: Generation) -> None:
    wanted, think = typed.format, typed.think
    if wanted == "json":
        document.response_format = {"type": "json_object"}
    elif isinstance(wanted, dict):
        schema = {"name": "answer", "schema": wanted}
        document.response_format = {"type": "json_schema", "json_schema": schema}
    if isinstance(think, str):
        # The level above high is Ollama's own.
        document.reasoning_effort = "high" if think == "max" else think
    elif think is not None:
        document.chat_template_kwargs = {"enable_thinking": think}
    if typed.logprobs and isinstance(document, _Complete):
        document.logprobs = typed.top_logprobs
    elif typed.logprobs:
        document.logprobs, document.top_logprobs = True, typed.top_logprobs


def as_stream(body: bytes) -> bytes:
    """A raw request as one for a stream that tells its usage. Raises `msgspec.DecodeError`."""
    document = msgspec.json.decode(body)
    document["stream"], document["stream_options"] = True, _WITH_USAGE
    return msgspec.json.encode(document)
