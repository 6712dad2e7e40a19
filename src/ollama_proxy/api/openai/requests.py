"""Requests of OpenAI's API: the facts that routing needs, read at once and no stricter than that.

What a server has to say of the rest of a body it says itself: the body goes up as it came, and the refusal is its own.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ollama_proxy.api.openai.errors import middleware_error
from ollama_proxy.api.openai.go_types import CHAT, COMPLETION, EMBED
from ollama_proxy.api.openai.typed import read_typed, read_typed_embedding
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Call, Dialect, Need, Operation, RawRequest
from ollama_proxy.net.bodies.lenient_json import check_types, decode_facts
from ollama_proxy.net.bodies.model_spelling import facts_decoder
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import read_annotations, read_body, read_raw_head, without_key

#: `metadata` belongs to the client; only these members of it are ours to read.
_METADATA_KEYS = frozenset(Annotations.__struct_fields__) - {"custom"}


_ABSENT = msgspec.Raw(b"")


class _Facts(msgspec.Struct, gc=False):
    model: Any = ""
    stream: Any = None
    stream_options: Any = None
    messages: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT
    suffix: Any = None
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None
    tools: msgspec.Raw = _ABSENT
    tool_choice: Any = None
    response_format: msgspec.Raw = _ABSENT
    logprobs: Any = None
    reasoning_effort: Any = None
    routing: Any = None
    metadata: Any = None


class _EmbedFacts(msgspec.Struct):
    model: Any = ""
    input: msgspec.Raw = _ABSENT
    encoding_format: Any = None
    routing: Any = None


_OPENAI = Dialect.OPENAI
_CHAT, _COMPLETE = Operation.CHAT, Operation.COMPLETE
_GENERATE = frozenset((Need.GENERATE,))
_COMPLETION = frozenset((Need.GENERATE, Need.COMPLETION))
_EMBED = frozenset((Need.EMBED,))
_NOTHING: frozenset[Need] = frozenset()
_TOKEN_INPUT = frozenset((Need.TOKEN_INPUT,))
_facts = facts_decoder(_Facts)
_embed_facts = facts_decoder(_EmbedFacts)
#: What of a member stands for nothing.
_EMPTY = (b"", b"null", b"[]")
_LONGEST_EMPTY = 4
#: A list of token ids, or of such lists.
_LIST = re.compile(rb"\[")
_TOKENS = re.compile(rb"\[\s*[\d\[]")


def read_completion(exchange: Exchange, operation: Operation, request_id: str, now_s: float) -> tuple[Call, bool]:
    """The call of `/v1/chat/completions` or `/v1/completions`, and whether usage is wanted at the end of a stream."""
    chat = operation is _CHAT
    kind = CHAT if chat else COMPLETION
    facts, body = decode_facts(_facts, read_body(exchange), kind)
    if facts.stream is not None and type(facts.stream) is not bool:
        check_types(body, kind)
    if chat and _is_empty(facts.messages):
        raise middleware_error("[] is too short - 'messages'")
    given = facts.max_completion_tokens or facts.max_tokens
    limit = given if type(given) is int and given > 0 else 0
    needs, wants, second_hand = _GENERATE, _NOTHING, b""
    if not chat or not _is_plain(facts, body):
        needs, wants, second_hand = _read_needs(facts, body, chat=chat), _read_wants(facts), _say_again(facts, limit)
    call = Call(
        request_id,
        _OPENAI,
        operation,
        facts.model,
        facts.stream is True,
        now_s,
        lambda: read_typed(body),
        _read_annotations(exchange, facts.routing, facts.metadata)
        if facts.routing or facts.metadata
        else read_annotations(exchange),
        needs,
        len(facts.messages) + len(facts.prompt),
        limit,
        RawRequest(read_raw_head(exchange), body if facts.routing is None else without_key(body, "routing")),
        wants,
        second_hand=second_hand,
        way_in=exchange.path.decode("ascii"),
    )
    options = facts.stream_options
    return call, isinstance(options, dict) and options.get("include_usage") is True


def _is_empty(member: msgspec.Raw) -> bool:
    """Whether a member that holds a list says nothing; long ones are not copied to find out."""
    return len(member) <= _LONGEST_EMPTY and bytes(member) in _EMPTY


def _is_plain(facts: _Facts, body: bytes) -> bool:
    """Whether a chat asks for nothing that some server cannot do; nearly all do, and this look is all it costs them."""
    return (
        facts.tools is _ABSENT
        and facts.response_format is _ABSENT
        and facts.tool_choice is None
        and facts.n is None
        and facts.logprobs is None
        and facts.max_completion_tokens is None
        and facts.reasoning_effort is None
        and b'"image_url"' not in body
        and b'"input_audio"' not in body
    )


def _read_needs(facts: _Facts, body: bytes, *, chat: bool) -> frozenset[Need]:
    """What the request cannot do without; servers of some kind cannot do each of it."""
    found = []
    if not _is_empty(facts.tools):
        found.append(Need.TOOLS)
    if facts.response_format and b'"json_' in bytes(facts.response_format):
        found.append(Need.FORMAT)
    # Zero is a number of them that completions may ask for.
    if facts.logprobs is not None and facts.logprobs is not False:
        found.append(Need.LOGPROBS)
    if chat:
        # Inside a text the quotes would be escaped.
        if b'"image_url"' in body:
            found.append(Need.IMAGES)
        if b'"input_audio"' in body:
            found.append(Need.AUDIO)
    elif facts.suffix:
        found.append(Need.SUFFIX)
    basis = _GENERATE if chat else _COMPLETION
    return basis.union(found) if found else basis


def _read_wants(facts: _Facts) -> frozenset[Need]:
    """What the request means better with, though Ollama's own layer does without and says nothing."""
    choice = facts.tool_choice
    found = []
    if choice == "required" or isinstance(choice, dict):
        found.append(Need.TOOL_CHOICE)
    if type(facts.n) is int and facts.n > 1:
        found.append(Need.CHOICES)
    if facts.reasoning_effort not in (None, "none"):
        found.append(Need.THINKING)
    if _LIST.match(facts.prompt):
        # Texts or token ids, for one answer each.
        found.append(Need.TOKEN_INPUT)
    return frozenset(found) if found else _NOTHING


def _say_again(facts: _Facts, limit: int) -> bytes:
    """In words that Ollama's layer reads: of two members of one name the later counts there."""
    members = []
    if facts.max_completion_tokens is not None and facts.max_tokens is None and limit:
        members.append(b'"max_tokens":%d' % limit)
    if facts.tool_choice == "none" and facts.tools:
        members.append(b'"tools":null')
    return b",".join(members)


def read_embedding(exchange: Exchange, request_id: str, now_s: float) -> tuple[Call, bool]:
    """The call of `/v1/embeddings`, and whether vectors go out as base64."""
    facts, body = decode_facts(_embed_facts, read_body(exchange), EMBED)
    if _is_empty(facts.input):
        raise middleware_error("invalid input")
    call = Call(
        request_id,
        _OPENAI,
        Operation.EMBED,
        facts.model,
        stream=False,
        arrived_s=now_s,
        typed=lambda: read_typed_embedding(body),
        annotations=_read_annotations(exchange, facts.routing, None),
        needs=_EMBED,
        prompt_bytes=len(facts.input),
        raw=RawRequest(read_raw_head(exchange), body if facts.routing is None else without_key(body, "routing")),
        wants=_TOKEN_INPUT if _TOKENS.match(facts.input) else _NOTHING,
        way_in="/v1/embeddings",
    )
    return call, facts.encoding_format == "base64"


def _read_annotations(exchange: Exchange, routing: Any, metadata: Any) -> Annotations:
    if routing is not None and not isinstance(routing, dict):
        raise middleware_error("routing must be an object")
    ours = None
    if isinstance(metadata, dict):
        ours = {key: value for key, value in metadata.items() if key in _METADATA_KEYS}
    return read_annotations(exchange, ours, routing)
