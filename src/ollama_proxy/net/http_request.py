"""What every HTTP dialect reads from a request in the same way: ids, annotations, JSON bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations, annotation_headers, parse_annotations
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.http1.exchange import Exchange

T = TypeVar("T")

_MAX_ID_CHARS = 128


def read_request_id(exchange: Exchange) -> str:
    """The client's `X-Request-ID` when it is short and printable, else ""."""
    value = exchange.header(b"x-request-id")
    if value is None or not 0 < len(value) <= _MAX_ID_CHARS or not all(33 <= byte < 127 for byte in value):
        return ""
    return value.decode("ascii")


def read_annotations(exchange: Exchange, *bodies: Mapping[str, Any] | None) -> Annotations:
    """Annotations of bodies and headers; a header wins. Raises `ProxyError` for a value that cannot be read."""
    pairs: list[tuple[str, object]] = []
    for body in bodies:
        if body:
            for key, value in body.items():
                if key == "custom" and isinstance(value, Mapping):
                    pairs += [(f"custom.{name}", inner) for name, inner in value.items()]
                else:
                    pairs.append((key, value))
    pairs += annotation_headers(exchange.headers)
    return parse_annotations(pairs) if pairs else NO_ANNOTATIONS


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a JSON body. Raises `ProxyError(INVALID_REQUEST)` that says where it is wrong."""
    if not body:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "missing request body")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid request: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid JSON: {error}") from None


def without_key(body: bytes, *path: str) -> bytes:
    """The same JSON object without one member; used to keep our own annotations from strict upstreams."""
    document = msgspec.json.decode(body)
    owner = document
    for key in path[:-1]:
        owner = owner.get(key, {})
    owner.pop(path[-1], None)
    return msgspec.json.encode(document)
