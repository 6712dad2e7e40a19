"""Requests of OpenAI's API in full: what an attempt needs that has to translate."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.domain.call import Embedding, Generation, Message, Sampling, ToolUse
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.conversation_length import check_messages
from ollama_proxy.net.http_request import decode_body


class _Function(msgspec.Struct, frozen=True):
    name: str = ""
    arguments: str | None = ""


class _Use(msgspec.Struct):
    function: _Function = _Function()
    id: str | None = ""
    type: str | None = None


class _ImageUrl(msgspec.Struct):
    url: str


class _Part(msgspec.Struct):
    type: str = ""
    text: str = ""
    refusal: str = ""
    image_url: _ImageUrl | str | None = None


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


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Request(msgspec.Struct):
    messages: list[_Message] | None = None
    prompt: str | list[Any] | None = None
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
    parallel_tool_calls: bool | None = None
    response_format: _ResponseFormat | None = None
    reasoning_effort: str | None = None
    reasoning: _Reasoning | None = None
    #: How llama.cpp and vLLM are told whether to think.
    chat_template_kwargs: dict[str, Any] | None = None
    logprobs: bool | int | None = None
    top_logprobs: int | None = None


class _EmbedRequest(msgspec.Struct):
    input: str | tuple[str, ...]
    dimensions: int | None = None
    encoding_format: str | None = None


_requests = msgspec.json.Decoder(_Request)
_embed_requests = msgspec.json.Decoder(_EmbedRequest)


def read_typed(body: bytes) -> Generation:
    """The typed form. OpenAI's defaults (temperature and top_p 1.0) are made explicit: other servers have others.

    Raises `ProxyError(INVALID_REQUEST)` for what no other dialect can say.
    """
    check_messages(body)
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
    wants_logprobs, top = _typed_logprobs(request)
    return Generation(
        prompt=_typed_prompt(request.prompt),
        suffix=request.suffix or "",
        messages=tuple(_typed_message(message) for message in request.messages or ()),
        sampling=sampling,
        tools=tuple(map(_check_tool, request.tools or ())),
        tool_choice=_check_tool(request.tool_choice, "tool_choice"),
        parallel_tools=request.parallel_tool_calls,
        format=_typed_format(request.response_format),
        think=_typed_thinking(request),
        effort=_own_effort(request),
        limits_completion=bool(request.max_completion_tokens),
        logprobs=wants_logprobs,
        top_logprobs=top,
    )


def _typed_logprobs(request: _Request) -> tuple[bool, int]:
    """Whether they are wanted, and how many others beside each token; completions say both with one number."""
    asked = request.logprobs
    if isinstance(asked, bool) or asked is None:
        return bool(asked), request.top_logprobs or 0
    return True, asked


def _typed_prompt(prompt: str | list[Any] | None) -> str:
    if isinstance(prompt, list):
        if len(prompt) == 1 and isinstance(prompt[0], str):
            return prompt[0]
        raise ProxyError(ErrorKind.INVALID_REQUEST, "prompt must be one text: the chosen backend takes no lists")
    return prompt or ""


def _typed_message(message: _Message) -> Message:
    parts = message.content if isinstance(message.content, list) else []
    text = message.content if isinstance(message.content, str) else "".join(part.text or part.refusal for part in parts)
    return Message(
        role="system" if message.role == "developer" else message.role,
        content=text,
        thinking=message.reasoning or message.reasoning_content or "",
        images=tuple(_image(part.image_url) for part in parts if part.image_url is not None),
        tool_uses=tuple(_typed_use(use) for use in message.tool_calls or ()),
        tool_call_id=message.tool_call_id or "",
        tool_name=message.name or "",
    )


def _check_tool(tool: Any, where: str = "tools") -> Any:
    """A tool, or the choice of one, that other dialects have too. Whoever offers no functions would drop the rest."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind not in (None, "function"):
        raise _refuse_kind(where, kind)
    return tool


def _refuse_kind(where: str, kind: object) -> ProxyError:
    text = f'{where}: the chosen backend knows no tools but functions; this is "{str(kind)[:100]}"'
    return ProxyError(ErrorKind.INVALID_REQUEST, text)


def _typed_use(use: _Use) -> ToolUse:
    if use.type not in (None, "", "function"):
        raise _refuse_kind("tool_calls", use.type)
    return ToolUse(use.function.name, use.function.arguments or "{}", use.id or "")


def _image(image: _ImageUrl | str) -> str:
    """The base64 of a data URI. No URL found in a body is ever fetched."""
    url = image if isinstance(image, str) else image.url
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


#: Efforts that only OpenAI's own models tell apart, as the nearest that others know.
_EFFORTS: dict[str, bool | str] = {"none": False, "minimal": "low", "xhigh": "max", "ultra": "max"}


def _typed_thinking(request: _Request) -> bool | str | None:
    effort = _read_effort(request)
    switch = (request.chat_template_kwargs or {}).get("enable_thinking")
    return switch if effort is None and isinstance(switch, bool) else _typed_effort(effort)


def _read_effort(request: _Request) -> str | None:
    return request.reasoning_effort or (request.reasoning.effort if request.reasoning else None)


def _own_effort(request: _Request) -> str:
    """The effort where other dialects have no such word, or mean another by it."""
    effort = _read_effort(request)
    return effort if effort == "max" or effort in _EFFORTS else ""


def _typed_effort(effort: str | None) -> bool | str | None:
    return None if effort is None else _EFFORTS.get(effort, effort)


def read_typed_embedding(body: bytes) -> Embedding:
    """The typed form of `/v1/embeddings`; token arrays mean something to their own tokenizer only."""
    request = decode_body(_embed_requests, body)
    if request.encoding_format not in (None, "", "float", "base64"):
        text = f"Invalid value for 'encoding_format' = {request.encoding_format[:100]}."
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"{text} Supported values: ['float', 'base64'].")
    inputs = (request.input,) if isinstance(request.input, str) else request.input
    return Embedding(inputs, request.dimensions)
