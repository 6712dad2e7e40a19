"""Requests of Anthropic's API: the facts that routing needs, read at once and no stricter than that.

What a server has to say of the rest of a body it says itself: the body goes up as it came, and the refusal is its own.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ollama_proxy.api.anthropic.blocks import Kinds, find_kinds
from ollama_proxy.api.anthropic.errors import BadRequest
from ollama_proxy.api.anthropic.go_types import REQUEST
from ollama_proxy.api.anthropic.typed import read_typed
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Call, Dialect, Need, Operation, RawRequest
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.bodies.lenient_json import check_types, decode_facts
from ollama_proxy.net.bodies.model_spelling import facts_decoder
from ollama_proxy.net.bodies.unpacking import PackedBodyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import read_annotations, read_body, read_raw_head, without_key

#: `metadata` belongs to the client; only these members of it are ours to read.
_METADATA_KEYS = frozenset(Annotations.__struct_fields__) - {"custom"}
_GENERATE = frozenset((Need.GENERATE,))
_COUNT = frozenset((Need.COUNT,))
_NOTHING: frozenset[Need] = frozenset()
#: What of a member stands for nothing.
_EMPTY = (b"", b"null", b"[]")
_LONGEST_EMPTY = 4
_LIST = re.compile(rb"\[")


class Facts(msgspec.Struct):
    """What is looked at of every request; the members that hold most of it are not read."""

    # A text, once it has been read.
    model: Any = ""
    max_tokens: Any = None
    messages: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    stream: Any = None
    tools: msgspec.Raw = msgspec.Raw(b"")
    tool_choice: Any = None
    thinking: Any = None
    output_config: Any = None
    metadata: Any = None
    routing: Any = None


_facts = facts_decoder(Facts)


class Asked(msgspec.Struct):
    """One request as it was read."""

    body: bytes
    facts: Facts

    @property
    def stream(self) -> bool:
        """Whether the answer comes as events."""
        return self.facts.stream is True


def read_asked(exchange: Exchange) -> Asked:
    """Read the facts of a request. Raises `ProxyError` in Ollama's words."""
    try:
        facts, body = decode_facts(_facts, read_body(exchange), REQUEST)
        if not _is_plain(facts):
            check_types(body, REQUEST)
    except PackedBodyError:
        raise
    except ProxyError as error:
        raise BadRequest(error.message) from None
    if facts.routing is not None and not isinstance(facts.routing, dict):
        raise BadRequest("routing must be an object")
    return Asked(body, facts)


def _is_plain(facts: Facts) -> bool:
    """Whether what is read has the types it should; otherwise somebody has to say in detail what has not."""
    return (
        type(facts.max_tokens) in (int, type(None))
        and type(facts.stream) in (bool, type(None))
        and (not facts.messages or _LIST.match(facts.messages) is not None)
        and (not facts.tools or _LIST.match(facts.tools) is not None)
        and all(type(one) in (dict, type(None)) for one in (facts.tool_choice, facts.thinking, facts.output_config))
    )


def _is_empty(member: msgspec.Raw) -> bool:
    """Whether a member that holds a list says nothing; long ones are not copied to find out."""
    return len(member) <= _LONGEST_EMPTY and bytes(member) in _EMPTY


def make_call(asked: Asked, exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of a request for a message. Raises `ProxyError` for annotations that cannot be read."""
    facts, body = asked.facts, asked.body
    kinds = find_kinds(body, facts.messages)
    server_tools = _read_server_tools(body, facts.tools)
    wants = _read_wants(facts, kinds, server_tools)
    limit = facts.max_tokens
    return Call(
        request_id,
        Dialect.ANTHROPIC,
        Operation.CHAT,
        facts.model,
        asked.stream,
        now_s,
        lambda: read_typed(body),
        _read_annotations(exchange, facts),
        _read_needs(facts, kinds, server_tools),
        len(facts.messages) + len(facts.system) + len(facts.tools),
        limit if type(limit) is int else 0,
        _raw(asked, exchange),
        wants,
        # Ollama's own layer for this API drops both in silence, though its native API has them.
        raw_needs_native=kinds.texts or _member(facts.output_config, "format") is not None,
        second_hand=b'"tools":null' if _forbids_tools(facts) else b"",
        way_in="/v1/messages",
    )


def make_count_call(asked: Asked, exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of a request to count tokens, for a backend that does. Raises `ProxyError` as `make_call`."""
    facts, body = asked.facts, asked.body
    return Call(
        request_id,
        Dialect.ANTHROPIC,
        Operation.COUNT,
        facts.model,
        stream=False,
        arrived_s=now_s,
        typed=lambda: read_typed(body),
        annotations=_read_annotations(exchange, facts),
        needs=_COUNT,
        prompt_bytes=len(facts.messages),
        raw=_raw(asked, exchange),
        way_in="/v1/messages/count_tokens",
    )


def _raw(asked: Asked, exchange: Exchange) -> RawRequest:
    body = asked.body if asked.facts.routing is None else without_key(asked.body, "routing")
    return RawRequest(read_raw_head(exchange), body)


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _forbids_tools(facts: Facts) -> bool:
    return bool(_member(facts.tool_choice, "type") == "none")


def _read_needs(facts: Facts, kinds: Kinds, server_tools: frozenset[str]) -> frozenset[Need]:
    """What the request cannot do without; servers of some kind cannot do each of it."""
    found = []
    if not _is_empty(facts.tools) and not _forbids_tools(facts):
        found.append(Need.TOOLS)
    if any(not name.startswith("web_search") for name in server_tools):
        found.append(Need.SERVER_TOOLS)
    if _member(facts.output_config, "format") is not None:
        found.append(Need.FORMAT)
    if kinds.images:
        found.append(Need.IMAGES)
    if kinds.documents:
        found.append(Need.DOCUMENTS)
    return _GENERATE.union(found) if found else _GENERATE


def _read_wants(facts: Facts, kinds: Kinds, server_tools: frozenset[str]) -> frozenset[Need]:
    """What the request means better with: without, it is refused in the server's own words, or served all the same."""
    found = []
    if _member(facts.tool_choice, "type") in ("any", "tool"):
        found.append(Need.TOOL_CHOICE)
    if _member(facts.thinking, "type") == "enabled":
        found.append(Need.THINKING)
    if kinds.remote_images:
        found.append(Need.REMOTE_IMAGES)
    if any(name.startswith("web_search") for name in server_tools):
        found.append(Need.WEB_SEARCH)
    return frozenset(found) if found else _NOTHING


class _Tool(msgspec.Struct):
    type: Any = None


_tools = msgspec.json.Decoder(list[_Tool])
#: Anthropic names its own tools with a date.
_DATED, _WEB_SEARCH = b"_20", b'"web_search'


def _read_server_tools(body: bytes, tools: msgspec.Raw) -> frozenset[str]:
    """The types of those tools that come with the server, not with the request."""
    if _is_empty(tools) or (_DATED not in body and _WEB_SEARCH not in body):
        return frozenset()
    try:
        listed = _tools.decode(tools)
    except UNREADABLE:
        return frozenset()
    return frozenset(tool.type for tool in listed if isinstance(tool.type, str) and tool.type != "custom")


def _read_annotations(exchange: Exchange, facts: Facts) -> Annotations:
    ours = None
    if isinstance(facts.metadata, dict):
        ours = {key: value for key, value in facts.metadata.items() if key in _METADATA_KEYS}
    return read_annotations(exchange, ours, facts.routing)


def has_messages(asked: Asked) -> bool:
    """Whether there is anything to answer."""
    return not _is_empty(asked.facts.messages)
