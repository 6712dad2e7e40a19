"""Requests of the Responses API: what routing needs of them, and the call."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.api.responses.errors import BadRequest
from ollama_proxy.api.responses.go_types import REQUEST
from ollama_proxy.api.responses.items import as_items, check_input, is_search
from ollama_proxy.api.responses.store import StoredResponse
from ollama_proxy.api.responses.typed import read_typed
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Call, Dialect, Need, Operation, RawRequest
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.bodies.lenient_json import check_types, decode_facts
from ollama_proxy.net.bodies.model_spelling import facts_decoder
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import decode_body, read_annotations, read_raw_head

_NULL = msgspec.Raw(b"null")
_GENERATE = frozenset((Need.GENERATE,))
_NOTHING: frozenset[Need] = frozenset()
#: `metadata` belongs to the client; only these members of it are ours to read.
_METADATA_KEYS = frozenset(Annotations.__struct_fields__) - {"custom"}
_LOGPROBS = "message.output_text.logprobs"
_IMAGE = b'"input_image"'


class _Facts(msgspec.Struct):
    """No stricter than routing needs: what else is wrong with a request is told by the server that gets it."""

    # A text, once it has been read.
    model: Any = ""
    input: msgspec.Raw = _NULL
    stream: Any = None
    store: Any = None
    background: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    max_output_tokens: Any = None
    tools: Any = None
    tool_choice: Any = None
    top_logprobs: Any = None
    include: Any = None
    text: Any = None
    reasoning: Any = None
    routing: Any = None
    metadata: Any = None


_facts = facts_decoder(_Facts)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


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
        self.history = earlier.history + tuple([item for item in earlier.output if not is_search(item)])

    def rewrite(self, body: bytes) -> Asked:
        """The same request in other words, which are all there is of it."""
        return Asked(body, _facts.decode(body))


def read_asked(body: bytes) -> Asked:
    """Read the facts of a request. Raises `BadRequest`."""
    try:
        facts, body = decode_facts(_facts, body, REQUEST)
        if facts.stream is not None and type(facts.stream) is not bool:
            check_types(body, REQUEST)
    except ProxyError as error:
        raise BadRequest(error.message) from None
    check_input(facts.input)
    if facts.background is True:
        raise _unsupported("background", "background responses are not supported")
    if facts.conversation is not None:
        raise _unsupported("conversation", "conversations are not kept here; use previous_response_id")
    for name, kind in (("previous_response_id", str), ("routing", dict)):
        value = getattr(facts, name)
        if value is not None and not isinstance(value, kind):
            raise BadRequest(f"{name} must be {'a string' if kind is str else 'an object'}", param=name)
    return Asked(body, facts)


def _unsupported(param: str, message: str) -> BadRequest:
    return BadRequest(message, param=param, code="unsupported_parameter")


def make_call(asked: Asked, exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of a request. Raises `ProxyError` for annotations that cannot be read."""
    facts, history = asked.facts, asked.history
    images = _IMAGE in asked.body or any(_IMAGE in item for item in history)
    limit = facts.max_output_tokens if type(facts.max_output_tokens) is int else 0
    return Call(
        request_id,
        Dialect.RESPONSES,
        Operation.CHAT,
        facts.model,
        asked.stream,
        now_s,
        lambda: read_typed(asked.body, asked.items()),
        _read_annotations(exchange, facts),
        _read_needs(facts, images=images),
        len(facts.input) + sum(map(len, history)),
        limit if limit > 0 else 0,
        RawRequest(read_raw_head(exchange), _raw_body(asked)),
        _read_wants(facts),
        raw_needs_native=_needs_native(facts),
        way_in="/v1/responses",
    )


def _read_needs(facts: _Facts, *, images: bool) -> frozenset[Need]:
    """What the request cannot do without; servers of some kind cannot do each of it."""
    found = []
    if images:
        found.append(Need.IMAGES)
    if isinstance(facts.tools, list) and any(_member(tool, "type") == "function" for tool in facts.tools):
        found.append(Need.TOOLS)
    if _wanted_format(facts) in ("json_schema", "json_object"):
        found.append(Need.FORMAT)
    if _wants_logprobs(facts):
        found.append(Need.LOGPROBS)
    return _GENERATE.union(found) if found else _GENERATE


def _read_wants(facts: _Facts) -> frozenset[Need]:
    """What the request means better with, though Ollama's own layer does without and says nothing."""
    found = []
    if _forces_a_tool(facts.tool_choice):
        found.append(Need.TOOL_CHOICE)
    if isinstance(facts.tools, list) and any(map(_is_of_this_api, facts.tools)):
        found.append(Need.BUILT_IN_TOOLS)
    if _member(facts.reasoning, "effort") not in (None, "", "none"):
        found.append(Need.THINKING)
    return frozenset(found) if found else _NOTHING


def _is_of_this_api(tool: Any) -> bool:
    """Whether only servers that speak this API have such a tool: one built in, or one called with plain text."""
    kind = _member(tool, "type")
    return isinstance(kind, str) and kind != "function"


def _wanted_format(facts: _Facts) -> Any:
    return _member(_member(facts.text, "format"), "type")


def _wants_logprobs(facts: _Facts) -> bool:
    return bool(facts.top_logprobs) or (isinstance(facts.include, list) and _LOGPROBS in facts.include)


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _forces_a_tool(choice: Any) -> bool:
    mode = choice
    if isinstance(choice, dict):
        mode = choice.get("mode") if choice.get("type") == "allowed_tools" else "required"
    return bool(mode == "required")


def _needs_native(facts: _Facts) -> bool:
    """What Ollama's own layer for this API drops in silence, though its native API can do it."""
    if facts.previous_response_id or facts.tool_choice == "none":
        return True
    return _wanted_format(facts) == "json_object" or _wants_logprobs(facts)


def _raw_body(asked: Asked) -> bytes:
    """The bytes as they came, unless there is something in them that only we understand."""
    if not asked.previous and asked.facts.routing is None:
        return asked.body
    members = decode_body(_members, asked.body)
    members.pop("routing", None)
    if asked.previous:
        del members["previous_response_id"]
        members["input"] = msgspec.Raw(b"[%b]" % b",".join(asked.items()))
    return msgspec.json.encode(members)


def _read_annotations(exchange: Exchange, facts: _Facts) -> Annotations:
    ours = None
    if isinstance(facts.metadata, dict):
        ours = {key: value for key, value in facts.metadata.items() if key in _METADATA_KEYS}
    return read_annotations(exchange, ours, facts.routing)
