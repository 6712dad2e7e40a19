"""Requests of Ollama's API: what routing has to know of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from ollama_proxy.api.ollama.go_types import CHAT, EMBED, EMBEDDINGS, GENERATE, SHOW, read_duration, read_request
from ollama_proxy.api.ollama.typed import read_typed, read_typed_embed, read_typed_embeddings
from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation, Need, Operation, RawRequest
from ollama_proxy.net.bodies.go_json import GoType, tidy
from ollama_proxy.net.bodies.go_syntax import GoError
from ollama_proxy.net.bodies.model_spelling import facts_decoder
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import decode_body, read_annotations, read_raw_head

T = TypeVar("T")

_OLLAMA = Dialect.OLLAMA
_OF_GENERATE, _OF_CHAT = Operation.GENERATE, Operation.CHAT
_GENERATE = frozenset((Need.GENERATE,))
_EMBED = frozenset((Need.EMBED,))
_SHOW = frozenset((Need.SHOW,))


class _FactOptions(msgspec.Struct):
    num_predict: float | None = None
    routing: dict[str, Any] | None = None


class _Facts(msgspec.Struct):
    model: str = ""
    stream: bool | None = None
    prompt: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    suffix: str | None = None
    template: str | None = None
    raw: bool | None = None
    images: list[msgspec.Raw] | None = None
    context: list[msgspec.Raw] | None = None
    options: _FactOptions | None = None


class _WorkFacts(msgspec.Struct):
    prompt: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    keep_alive: msgspec.Raw = msgspec.Raw(b"")


class _EmbedFacts(msgspec.Struct):
    model: str = ""
    input: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    options: _FactOptions | None = None


class _ShowFacts(msgspec.Struct):
    model: str = ""
    name: str = ""


_NO_OPTIONS = _FactOptions()
_facts = facts_decoder(_Facts)
_work_facts = msgspec.json.Decoder(_WorkFacts)
_embed_facts = facts_decoder(_EmbedFacts)
_show_facts = facts_decoder(_ShowFacts)


def read_generate(exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of `/api/generate`. Raises `ProxyError`."""
    return _read_generation(exchange, _OF_GENERATE, request_id, now_s)


def read_chat(exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of `/api/chat`. Raises `ProxyError`."""
    return _read_generation(exchange, _OF_CHAT, request_id, now_s)


def _read_generation(exchange: Exchange, operation: Operation, request_id: str, now_s: float) -> Call:
    facts, body = _read(_facts, exchange.body, GENERATE if operation is _OF_GENERATE else CHAT)
    options = facts.options or _NO_OPTIONS
    limit = options.num_predict or 0
    return Call(
        request_id,
        _OLLAMA,
        operation,
        facts.model,
        facts.stream is not False,
        now_s,
        lambda: read_typed(body, operation),
        read_annotations(exchange, options.routing),
        _generate_needs(facts) if operation is _OF_GENERATE else _chat_needs(body),
        len(facts.prompt) + len(facts.messages),
        int(limit) if limit > 0 else 0,
        RawRequest(read_raw_head(exchange), body),
        way_in=exchange.path.decode("ascii"),
    )


def asks_for_nothing(call: Call) -> bool:
    """Whether a generate or chat request has nothing to do: it is to load the model, or to unload it."""
    if call.prompt_bytes > _LONGEST_NOTHING or call.raw is None:
        return False
    facts = _read_work(call)
    return facts is not None and bytes(facts.prompt if call.operation is _OF_GENERATE else facts.messages) in _NOTHING


def is_unload(call: Call) -> bool:
    """Whether a request with nothing to do wants the model kept for no time at all."""
    facts = _read_work(call)
    keep_alive = bytes(facts.keep_alive) if facts is not None else b""
    if keep_alive in (b"", b"null"):
        return False
    try:
        value = msgspec.json.decode(keep_alive, type=float | str)
        return read_duration(value) == 0 if isinstance(value, str) else 0 <= value < _NANOSECOND
    except (GoError, *UNREADABLE):
        # The backend complains about it.
        return False


def _read_work(call: Call) -> _WorkFacts | None:
    """What a raw body says of its work, to Ollama as well; None where it cannot be read, which is for the backend to
    say."""
    if call.raw is None:
        return None
    try:
        return _work_facts.decode(tidy(call.raw.body, GENERATE if call.operation is _OF_GENERATE else CHAT))
    except (GoError, *UNREADABLE):
        return None


#: What a prompt or messages look like that are not there.
_NOTHING = frozenset((b"", b'""', b"null", b"[]", b"[ ]"))
_LONGEST_NOTHING = 4
_NANOSECOND = 1e-9


def _read(decoder: msgspec.json.Decoder[T], body: bytes, kind: GoType) -> tuple[T, bytes]:
    """The facts of a body, and the body as backends should see it: as it came, if everybody reads it alike."""
    try:
        facts = decoder.decode(body)
    except UNREADABLE:
        return _read_loosely(decoder, body, kind)
    # Without a model there may be one under another spelling of the word.
    return (facts, body) if facts.model else _read_loosely(decoder, body, kind)  # type: ignore[attr-defined]


def _read_loosely(decoder: msgspec.json.Decoder[T], body: bytes, kind: GoType) -> tuple[T, bytes]:
    """The facts of a body that only Ollama can read, and the body as everybody can. Raises `ProxyError`."""
    document = read_request(body, kind)
    if "options" in document:
        document["options"] = _loose_options(document["options"])
    return decode_body(decoder, msgspec.json.encode(document)), tidy(body, kind)


def _loose_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that routing looks at; Ollama itself complains about the others."""
    limit = options.get("num_predict")
    is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
    return {"num_predict": limit if is_number else None, "routing": options.get("routing")}


def _chat_needs(body: bytes) -> frozenset[Need]:
    return _GENERATE | {Need.IMAGES} if b'"images"' in body else _GENERATE


def _generate_needs(facts: _Facts) -> frozenset[Need]:
    needs = set()
    if facts.suffix:
        needs.add(Need.SUFFIX)
    if facts.template:
        needs.add(Need.TEMPLATE)
    if facts.raw:
        needs.add(Need.RAW_PROMPT)
    if facts.context:
        needs.add(Need.CONTEXT)
    if facts.images:
        needs.add(Need.IMAGES)
    return _GENERATE | needs if needs else _GENERATE


def read_embed(exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of `/api/embed`. Raises `ProxyError`."""
    return _read_embedding(exchange, request_id, now_s, EMBED, read_typed_embed)


def read_embeddings(exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of the older `/api/embeddings`. Raises `ProxyError`."""
    return _read_embedding(exchange, request_id, now_s, EMBEDDINGS, read_typed_embeddings)


def _read_embedding(
    exchange: Exchange, request_id: str, now_s: float, kind: GoType, typed: Callable[[bytes], Embedding]
) -> Call:
    facts, body = _read(_embed_facts, exchange.body, kind)
    return Call(
        request_id=request_id,
        dialect=Dialect.OLLAMA,
        operation=Operation.EMBED,
        model=facts.model,
        stream=False,
        arrived_s=now_s,
        typed=lambda: typed(body),
        annotations=read_annotations(exchange, facts.options.routing if facts.options else None),
        needs=_EMBED,
        prompt_bytes=len(facts.input) + len(facts.prompt),
        raw=RawRequest(read_raw_head(exchange), body),
        way_in=exchange.path.decode("ascii"),
    )


def read_show(exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of `/api/show`; `name` is the older word for `model`. Raises `ProxyError`."""
    facts, body = _read(_show_facts, exchange.body, SHOW)
    return Call(
        request_id=request_id,
        dialect=Dialect.OLLAMA,
        operation=Operation.SHOW,
        model=facts.model or facts.name,
        stream=False,
        arrived_s=now_s,
        typed=Generation,
        annotations=read_annotations(exchange),
        needs=_SHOW,
        raw=RawRequest(read_raw_head(exchange), body),
        way_in="/api/show",
    )
