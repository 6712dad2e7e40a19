"""Requests that only a server of this API can read: audio, images, reranking. Their model is all we look at."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.api.openai.errors import middleware_error
from ollama_proxy.api.openai.go_types import IMAGE
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation, RawHead, RawRequest
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.lenient_json import decode_facts
from ollama_proxy.net.bodies.model_spelling import facts_decoder
from ollama_proxy.net.bodies.multipart import FormError, find_field, read_boundary
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import read_annotations, read_raw_head, without_key

#: Where each request goes up, and what it takes. Cohere's path for reranking has the same bodies.
ROUTES: dict[bytes, tuple[bytes, frozenset[Need]]] = {
    b"/v1/audio/transcriptions": (b"", frozenset((Need.AUDIO,))),
    b"/v1/audio/translations": (b"", frozenset((Need.AUDIO_TRANSLATION,))),
    b"/v1/audio/speech": (b"", frozenset((Need.SPEECH,))),
    b"/v1/images/generations": (b"", frozenset((Need.IMAGE_OUTPUT,))),
    b"/v1/images/edits": (b"", frozenset((Need.IMAGE_OUTPUT,))),
    b"/v1/images/variations": (b"", frozenset((Need.IMAGE_VARIATION,))),
    b"/v1/rerank": (b"", frozenset((Need.RERANK,))),
    b"/rerank": (b"/v1/rerank", frozenset((Need.RERANK,))),
    b"/v2/rerank": (b"/v1/rerank", frozenset((Need.RERANK,))),
}
#: Of these Ollama takes nothing but forms.
_FORMS = (b"/v1/audio/transcriptions", b"/v1/audio/translations")
_GENERATIONS = b"/v1/images/generations"
_JSON_HEADERS = ((b"content-type", b"application/json"),)
_rerank_head = RawHead(b"POST", b"/v1/rerank", _JSON_HEADERS)


class _Facts(msgspec.Struct):
    model: Any = ""
    prompt: Any = None
    routing: Any = None


_facts = facts_decoder(_Facts)


def read_passed(exchange: Exchange, request_id: str, now_s: float) -> Call:
    """The call of one of `ROUTES`. Raises `ProxyError` for a body that does not tell its model, and is no good."""
    path = exchange.path
    there, needs = ROUTES[path]
    content_type = exchange.header(b"content-type", b"")
    body, routing = exchange.body, None
    if [name for name, _ in exchange.headers].count(b"content-type") > 1:
        raise middleware_error("more than one Content-Type")
    if path in _FORMS or content_type[:10].lower() == b"multipart/":
        model = _read_form(body, content_type)
    else:
        facts, body = decode_facts(_facts, body, IMAGE)
        if path == _GENERATIONS and not facts.prompt:
            raise middleware_error("prompt is required")
        model, routing = facts.model, facts.routing
    if routing is not None:
        body = without_key(body, "routing")
    return Call(
        request_id,
        Dialect.OPENAI,
        Operation.PASS,
        model,
        stream=False,
        arrived_s=now_s,
        typed=_never_typed,
        annotations=read_annotations(exchange, routing if isinstance(routing, dict) else None),
        needs=needs,
        prompt_bytes=0,
        raw=RawRequest(_rerank_head if there else read_raw_head(exchange), body),
        way_in=path.decode("ascii"),
    )


def _read_form(body: bytes, content_type: bytes) -> str:
    try:
        place = find_field(body, read_boundary(content_type), b"model")
    except FormError as error:
        raise middleware_error(f"failed to parse multipart form: {error}") from None
    return "" if place is None else body[place[0] : place[1]].decode("utf-8", "replace")


def _never_typed() -> Generation:
    raise ProxyError(ErrorKind.UNIMPLEMENTED, "this request can only be passed on as it came")
