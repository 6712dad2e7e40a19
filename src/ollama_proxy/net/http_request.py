"""What every HTTP dialect reads from a request in the same way: ids, annotations, JSON bodies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

import msgspec

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations, annotation_headers, parse_annotations
from ollama_proxy.domain.call import RawHead
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.unpacking import unpack_zstd
from ollama_proxy.net.bodies.unreadable import UNREADABLE, tell_unreadable
from ollama_proxy.net.http1.exchange import Exchange, Header

T = TypeVar("T")

_MAX_ID_CHARS = 128
_PASSED_HEADERS = (b"content-type", b"user-agent", b"accept", b"anthropic-version", b"anthropic-beta")
_MOST_RAW_HEADS = 512
_raw_heads: dict[tuple[bytes, bytes, tuple[Header, ...]], RawHead] = {}
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
#: Keys of an exchange's notes.
_GIVEN = "annotations"
_RAW_HEAD = "raw head"


def read_request_id(exchange: Exchange) -> str:
    """The client's `X-Request-ID` when it is short and printable, else ""."""
    value = exchange.header(b"x-request-id")
    if value is None or not 0 < len(value) <= _MAX_ID_CHARS or not all(33 <= byte < 127 for byte in value):
        return ""
    return value.decode("ascii")


def read_annotations(exchange: Exchange, *bodies: Mapping[str, Any] | None) -> Annotations:
    """Annotations of bodies and headers; a header wins. Raises `ProxyError` for a value that cannot be read."""
    notes = exchange.notes
    given = notes.get(_GIVEN)
    if given is None:
        given = notes[_GIVEN] = annotation_headers(exchange.headers)
    if not given and not any(bodies):
        return NO_ANNOTATIONS
    pairs = [pair for body in bodies if body for pair in annotation_pairs(body)]
    return parse_annotations([*pairs, *given])


def annotation_pairs(body: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What a JSON object says for the one parser of annotations; the members of `custom` are named one by one."""
    pairs: list[tuple[str, object]] = []
    for key, value in body.items():
        if key == "custom" and isinstance(value, Mapping):
            pairs += [(f"custom.{name}", inner) for name, inner in value.items()]
        else:
            pairs.append((key, value))
    return pairs


def read_raw_head(exchange: Exchange) -> RawHead:
    """What is passed on of a request's head; the same object for every equal head."""
    found = exchange.notes.get(_RAW_HEAD)
    if found is None:
        headers = tuple(header for header in exchange.headers if header[0] in _PASSED_HEADERS)
        key = (exchange.method, exchange.target, headers)
        found = _raw_heads.get(key)
        if found is None:
            if len(_raw_heads) >= _MOST_RAW_HEADS:
                _raw_heads.clear()
            found = _raw_heads[key] = RawHead(*key)
        exchange.notes[_RAW_HEAD] = found
    return cast(RawHead, found)


def read_body(exchange: Exchange) -> bytes:
    """The body of a request to a route that takes packed ones, unpacked. Raises `PackedBodyError`."""
    if exchange.header(b"content-encoding") == b"zstd":
        return unpack_zstd(exchange.body)
    return exchange.body


def decode_body(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a JSON body. Raises `ProxyError(INVALID_REQUEST)` that says where it is wrong."""
    if not body:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "missing request body")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid request: {error}") from None
    except UNREADABLE as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid JSON: {tell_unreadable(error)}") from None


def without_key(body: bytes, key: str) -> bytes:
    """The same JSON object without one member; used to keep our own annotations from strict upstreams.

    What the other members hold is not read, and stays. Raises `ProxyError` for a body that cannot be taken apart.
    """
    members = decode_body(_members, body)
    members.pop(key, None)
    return msgspec.json.encode(members)
