"""Requests of the Responses API: what routing needs of them, and the call."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.api.responses.errors import BadRequest
from ollama_proxy.api.responses.items import as_items, check_input
from ollama_proxy.api.responses.store import StoredResponse
from ollama_proxy.api.responses.typed import read_typed
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Call, Dialect, Need, Operation, RawRequest
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import decode_body, read_annotations, read_raw_head

_NULL = msgspec.Raw(b"null")
_GENERATE = frozenset((Need.GENERATE,))
_WITH_IMAGES = frozenset((Need.GENERATE, Need.IMAGES))
_NOTHING: frozenset[Need] = frozenset()
_FORCED = frozenset((Need.TOOL_CHOICE,))
#: `metadata` belongs to the client; only these members of it are ours to read.
_METADATA_KEYS = frozenset(Annotations.__struct_fields__) - {"custom"}
_LOGPROBS = "message.output_text.logprobs"
_IMAGE = b'"input_image"'


class _Format(msgspec.Struct):
    type: Any = None


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Facts(msgspec.Struct):
    model: str | None = None
    input: msgspec.Raw = _NULL
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: msgspec.Raw = _NULL
    max_output_tokens: int | None = None
    tool_choice: Any = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    text: _Text | None = None
    routing: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


_facts = msgspec.json.Decoder(_Facts)


class Asked(msgspec.Struct):
    """One request as it was read. `history` are the items of earlier turns, as JSON texts."""

    body: bytes
    facts: _Facts
    history: tuple[bytes, ...] = ()

    @property
    def previous(self) -> str:
        """The id of the answer that this one goes on from, or ""."""
        return self.facts.previous_response_id or ""

    @property
    def store(self) -> bool:
        """Whether the answer is to be kept."""
        return self.facts.store is not False

    @property
    def stream(self) -> bool:
        """Whether the answer comes as events."""
        return self.facts.stream is True

    def items(self) -> tuple[bytes, ...]:
        """Everything the answer is made from: earlier turns, then this request's own input."""
        return (*self.history, *as_items(self.facts.input))

    def follow(self, earlier: StoredResponse) -> None:
        """Go on from an answer that was kept."""
        self.history = earlier.history + earlier.output


def read_asked(body: bytes) -> Asked:
    """Read the facts of a request. Raises `BadRequest`."""
    try:
        facts = decode_body(_facts, body)
    except ProxyError as error:
        raise BadRequest(error.message) from None
    check_input(facts.input)
    if facts.background:
        raise BadRequest("background responses are not supported", param="background", code="unsupported_parameter")
    if bytes(facts.conversation) != b"null":
        message = "conversations are not kept here; use previous_response_id"
        raise BadRequest(message, param="conversation", code="unsupported_parameter")
    return Asked(body, facts)


def make_call(asked: Asked, exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of a request. Raises `ProxyError` for annotations that cannot be read."""
    facts, history = asked.facts, asked.history
    images = _IMAGE in asked.body or any(_IMAGE in item for item in history)
    limit = facts.max_output_tokens or 0
    return Call(
        request_id,
        Dialect.RESPONSES,
        Operation.CHAT,
        facts.model or "",
        asked.stream,
        now_s,
        lambda: read_typed(asked.body, asked.items()),
        _read_annotations(exchange, facts),
        _WITH_IMAGES if images else _GENERATE,
        len(facts.input) + sum(map(len, history)),
        limit if limit > 0 else 0,
        RawRequest(read_raw_head(exchange), _raw_body(asked)),
        wants=_FORCED if _forces_a_tool(facts.tool_choice) else _NOTHING,
        raw_needs_native=_needs_native(facts),
        way_in="/v1/responses",
    )


def _forces_a_tool(choice: Any) -> bool:
    mode = choice
    if isinstance(choice, dict):
        mode = choice.get("mode") if choice.get("type") == "allowed_tools" else "required"
    return bool(mode == "required")


def _needs_native(facts: _Facts) -> bool:
    """What Ollama's own layer for this API drops in silence, though its native API can do it."""
    wanted = facts.text.format.type if facts.text is not None and facts.text.format is not None else None
    logprobs = bool(facts.top_logprobs) or _LOGPROBS in (facts.include or ())
    return bool(facts.previous_response_id) or wanted == "json_object" or logprobs or facts.tool_choice == "none"


def _raw_body(asked: Asked) -> bytes:
    """The bytes as they came, unless there is something in them that only we understand."""
    if not asked.previous and asked.facts.routing is None:
        return asked.body
    document = msgspec.json.decode(asked.body)
    document.pop("routing", None)
    if document.pop("previous_response_id", None):
        document["input"] = [msgspec.Raw(item) for item in asked.items()]
    return msgspec.json.encode(document)


def _read_annotations(exchange: Exchange, facts: _Facts) -> Annotations:
    ours = {key: value for key, value in facts.metadata.items() if key in _METADATA_KEYS} if facts.metadata else None
    return read_annotations(exchange, ours, facts.routing)
