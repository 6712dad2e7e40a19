"""Messages of clients, and the call that a request is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from ollama_proxy.domain.annotations import parse_annotations
from ollama_proxy.domain.call import Call, Dialect, Generation, Message, Need, Operation, Sampling, ToolUse
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.conversation_length import check_count
from ollama_proxy.net.bodies.unreadable import UNREADABLE, tell_unreadable
from ollama_proxy.net.http_request import annotation_pairs

TYPES = ("request", "cancel", "ping")
_MAX_ID_CHARS = 128

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Envelope(msgspec.Struct):
    """What every message has. Nothing of it is checked, so that a bad message can still be answered by its id."""

    type: Any = "request"
    request_id: Any = None


class _Options(msgspec.Struct):
    """The names of `compute.v1`, and Ollama's where it has others; what is not here goes to the backend as it came."""

    max_tokens: _Count | None = None
    num_predict: int | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_k: _Count | None = None
    min_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: tuple[str, ...] | str | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    context_length: _Count | None = None
    num_ctx: _Count | None = None
    routing: dict[str, Any] | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: dict[str, Any] = {}


class _Use(msgspec.Struct):
    function: _Function
    id: str = ""


class _Turn(msgspec.Struct):
    role: str
    content: str | None = None
    thinking: str | None = None
    images: tuple[str, ...] | None = None
    tool_calls: tuple[_Use, ...] | None = None
    tool_name: str = ""
    tool_call_id: str = ""


class _Request(msgspec.Struct):
    model: str = ""
    prompt: str | None = None
    messages: tuple[_Turn, ...] | None = None
    system: str | None = None
    images: tuple[str, ...] | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    format: str | dict[str, Any] | None = None
    think: bool | str | None = None
    keep_alive: int | float | str | None = None
    options: dict[str, Any] | None = None
    stream: bool | None = None
    priority: str | None = None
    max_latency_ms: float | str | None = None
    annotations: dict[str, Any] | None = None


_envelopes = msgspec.json.Decoder(Envelope)
_requests = msgspec.json.Decoder(_Request)
_KNOWN = frozenset(_Options.__struct_fields__)


def read_envelope(text: str) -> Envelope:
    """The type and the id of a message. Raises `ProxyError`."""
    try:
        return _envelopes.decode(text)
    except msgspec.ValidationError:
        raise _refuse("a message is a JSON object") from None
    except UNREADABLE as error:
        raise _refuse(f"invalid JSON: {tell_unreadable(error)}") from None


def read_id(envelope: Envelope) -> str:
    """The id of a message, "" when it has none. Raises `ProxyError` for what can be none."""
    value = envelope.request_id
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or len(value) > _MAX_ID_CHARS or not (value.isascii() and value.isprintable()):
        raise _refuse(f"request_id must be a text of 1 to {_MAX_ID_CHARS} printable ASCII characters")
    return value


def read_request(text: str, request_id: str, now_s: float, defaults: Sequence[tuple[str, object]]) -> Call:
    """The call of a request message; `defaults` are annotations that it may override. Raises `ProxyError`."""
    request = _decode(text)
    if (request.prompt is None) == (request.messages is None):
        raise _refuse("a request has either a prompt or messages")
    if request.prompt == "" or request.messages == ():
        raise _refuse("prompt and messages must not be empty")
    options = _read_options(request.options or {})
    sampling = _sample(options, request.options or {})
    operation = Operation.GENERATE if request.messages is None else Operation.CHAT
    turns = request.messages or ()
    return Call(
        request_id,
        Dialect.COMPUTE,
        operation,
        request.model,
        request.stream is True,
        now_s,
        lambda: _typed(request, sampling),
        parse_annotations([*defaults, *_annotations(request, options.routing)]),
        _needs(request),
        len((request.prompt or "").encode()) + sum(len((turn.content or "").encode()) for turn in turns),
        max(sampling.num_predict or 0, 0),
        wants=frozenset((Need.THINKING,)) if request.think else frozenset(),
        way_in="websocket",
    )


def _decode(text: str) -> _Request:
    try:
        return _requests.decode(text)
    except msgspec.ValidationError as error:
        raise _refuse(f"invalid request: {error}") from None


def _annotations(request: _Request, routing: Mapping[str, Any] | None) -> list[tuple[str, object]]:
    """The request's own annotations; its named fields are the last word."""
    pairs = annotation_pairs(routing or {}) + annotation_pairs(request.annotations or {})
    if request.priority is not None:
        pairs.append(("priority", request.priority))
    if request.max_latency_ms is not None:
        pairs.append(("max_latency_ms", request.max_latency_ms))
    return pairs


def _needs(request: _Request) -> frozenset[Need]:
    needs = {Need.GENERATE}
    if request.images or any(turn.images for turn in request.messages or ()):
        needs.add(Need.IMAGES)
    if request.tools:
        needs.add(Need.TOOLS)
    if request.format:
        needs.add(Need.FORMAT)
    return frozenset(needs)


def _read_options(options: Mapping[str, Any]) -> _Options:
    try:
        return msgspec.convert(options, _Options)
    except msgspec.ValidationError as error:
        raise _refuse(f"invalid option: {error}") from None


def _sample(options: _Options, given: Mapping[str, Any]) -> Sampling:
    """Sampling under the names of the domain. A count of zero means the model's own, as in `compute.v1`."""
    stop = (options.stop,) if isinstance(options.stop, str) else options.stop
    return Sampling(
        num_predict=options.max_tokens or options.num_predict or None,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        seed=options.seed,
        stop=stop or None,
        repeat_penalty=options.repeat_penalty,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        num_ctx=options.context_length or options.num_ctx or None,
        extra={name: value for name, value in given.items() if name not in _KNOWN},
    )


def _typed(request: _Request, sampling: Sampling) -> Generation:
    turns = request.messages
    check_count(len(turns or ()))
    messages = tuple(map(_message, turns or ()))
    if turns is not None and request.system:
        messages = (Message("system", request.system), *messages)
    return Generation(
        prompt=request.prompt or "",
        system=(request.system or "") if turns is None else "",
        images=request.images or (),
        messages=messages,
        sampling=sampling,
        tools=request.tools or (),
        format=request.format or None,
        think=request.think,
        keep_alive=request.keep_alive,
    )


def _message(turn: _Turn) -> Message:
    uses = turn.tool_calls or ()
    return Message(
        role=turn.role.lower(),
        content=turn.content or "",
        thinking=turn.thinking or "",
        images=turn.images or (),
        tool_uses=tuple(
            ToolUse(use.function.name, msgspec.json.encode(use.function.arguments).decode(), use.id) for use in uses
        ),
        tool_call_id=turn.tool_call_id,
        tool_name=turn.tool_name,
    )


def _refuse(message: str) -> ProxyError:
    return ProxyError(ErrorKind.INVALID_REQUEST, message)
