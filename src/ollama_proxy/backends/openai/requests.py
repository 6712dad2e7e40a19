"""Typed calls as OpenAI requests."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.domain.call import Call, Continued, Dialect, Embedding, Generation, Message, Operation, Sampling
from ollama_proxy.domain.tool_ids import with_ids
from ollama_proxy.net.bodies.image_type import image_type
from ollama_proxy.net.bodies.open_turn import leave_open

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
    max_completion_tokens: int | None = None
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
    #: llama.cpp and vLLM: leave the last turn open, and say nothing of it again.
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
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


class _Format(msgspec.Struct):
    name: str | None = None
    strict: bool | None = None
    description: str | None = None


class _Text(msgspec.Struct):
    format: _Format


class _Response(msgspec.Struct):
    """As much of a request of the Responses API as the typed form has no room for."""

    text: _Text


_responses = msgspec.json.Decoder(_Response)


class _Embed(msgspec.Struct, omit_defaults=True):
    model: str
    input: tuple[str, ...]
    dimensions: int | None = None


def encode_request(
    call: Call, model: str, *, stream: bool, thinks_by_template: bool = False
) -> tuple[bytes, msgspec.Struct]:
    """Path and document for a typed call. `thinks_by_template`: the server switches thinking in the chat template."""
    typed = call.typed()
    if isinstance(typed, Embedding):
        return b"/embeddings", _Embed(model, typed.inputs, typed.dimensions)
    sent = call.continued
    document: _Asked
    if typed.raw or call.operation is _COMPLETE:
        behind = sent.text if sent is not None else ""
        path, document = b"/completions", _Complete(model, prompt=typed.prompt + behind)
    else:
        path, document = b"/chat/completions", _encode_chat(typed, model, sent)
    _fill_sampling(document, typed.sampling, native=call.dialect in _NATIVE)
    _fill_wishes(document, typed, call)
    if typed.think is not None:
        _fill_thinking(document, typed.think, thinks_by_template=thinks_by_template)
    if call.dialect is Dialect.OPENAI:
        _say_as_asked(document, typed)
    if stream:
        document.stream, document.stream_options = True, _WITH_USAGE
    return path, document


def _say_as_asked(document: _Asked, typed: Generation) -> None:
    """In the client's own words, which are this server's as well."""
    if typed.effort:
        document.reasoning_effort = typed.effort
    if typed.limits_completion and isinstance(document, _Chat):
        document.max_tokens, document.max_completion_tokens = None, document.max_tokens


def _encode_chat(typed: Generation, model: str, sent: Continued | None) -> _Chat:
    messages = typed.messages
    if not messages:
        system = (Message("system", typed.system),) if typed.system else ()
        messages = (*system, Message("user", typed.prompt, images=typed.images))
    if sent is not None:
        messages = leave_open(messages, sent)
    document = _Chat(model, messages=[_encode_message(message) for message in with_ids(messages)])
    if sent is not None:
        document.add_generation_prompt, document.continue_final_message = False, True
    if typed.tools:
        # Strict servers refuse a choice among no tools.
        document.tools, document.tool_choice = typed.tools, typed.tool_choice
        document.parallel_tool_calls = typed.parallel_tools
    return document


def _encode_message(message: Message) -> _Turn:
    content: str | list[dict[str, Any]] = message.content
    if message.images:
        parts = [{"type": "image_url", "image_url": {"url": _image_url(image)}} for image in message.images]
        content = [{"type": "text", "text": message.content}, *parts] if message.content else parts
    uses = [_Use(use.id, _Function(use.name, use.arguments or "{}")) for use in message.tool_uses]
    return _Turn(message.role, content, message.thinking, uses or None, message.tool_call_id)


def _image_url(image: str) -> str:
    return f"data:image/{image_type(image)};base64,{image}"


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


def _fill_wishes(document: _Asked, typed: Generation, call: Call) -> None:
    wanted = typed.format
    if wanted == "json":
        document.response_format = {"type": "json_object"}
    elif isinstance(wanted, dict):
        document.response_format = {"type": "json_schema", "json_schema": {**_describe_schema(call), "schema": wanted}}
    if typed.logprobs and isinstance(document, _Complete):
        document.logprobs = typed.top_logprobs
    elif typed.logprobs:
        document.logprobs, document.top_logprobs = True, typed.top_logprobs


def _describe_schema(call: Call) -> dict[str, Any]:
    """What belongs to a schema by the client's own words; only the Responses API has any. A schema must have a name."""
    found: dict[str, Any] = {"name": "answer"}
    if call.dialect is Dialect.RESPONSES and call.raw is not None:
        told = msgspec.structs.asdict(_responses.decode(call.raw.body).text.format)
        found |= {name: value for name, value in told.items() if value not in (None, "")}
    return found


def _fill_thinking(document: _Asked, think: bool | str, *, thinks_by_template: bool) -> None:
    """How hard to think. A server that has no switch for it gets an effort; not to think is what most then do anyway,
    and many refuse to be told so."""
    if isinstance(think, str):
        # The level above high is Ollama's own.
        document.reasoning_effort = "high" if think == "max" else think
    elif think and not thinks_by_template:
        document.reasoning_effort = "medium"
    if thinks_by_template:
        document.chat_template_kwargs = {"enable_thinking": bool(think)}


def as_stream(body: bytes) -> bytes:
    """A raw request as one for a stream that tells its usage. Raises `msgspec.DecodeError`."""
    document = msgspec.json.decode(body)
    document["stream"], document["stream_options"] = True, _WITH_USAGE
    return msgspec.json.encode(document)
