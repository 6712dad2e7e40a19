"""JSON bodies read as Go's servers read them: Ollama takes more than strict readers do, and its clients rely on it.

Bytes behind the first value are ignored, names of members match in any case, what is no UTF-8 becomes U+FFFD, and
`null` is an empty object. All of that costs a second look only where the first, strict one found nothing.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.go_json import GoType, read_as, tidy
from ollama_proxy.net.bodies.go_syntax import GoError
from ollama_proxy.net.bodies.unreadable import UNREADABLE, tell_unreadable


class Facts(Protocol):
    """What is read of a body, the model above all; anything but a text there is looked at again."""

    model: str


F = TypeVar("F", bound=Facts)


def decode_facts(decoder: msgspec.json.Decoder[F], body: bytes, kind: GoType) -> tuple[F, bytes]:
    """The members that `decoder` knows, and the body in a form that strict servers read, too: the very one if it is.

    `kind` is what the request is to Ollama. Raises `ProxyError(INVALID_REQUEST)` in Go's words.
    """
    try:
        facts = decoder.decode(body)
    except UNREADABLE:
        pass
    else:
        if type(facts.model) is str and facts.model:
            return facts, body
    check_types(body, kind)
    body = tidy(body, kind)
    facts = _decode_tidy(decoder, body)
    # Null is no model, as if it were not there.
    facts.model = facts.model or ""
    return facts, body


def check_types(body: bytes, kind: GoType) -> None:
    """Raise `ProxyError(INVALID_REQUEST)` in Go's words for a body that Go would not read as `kind`."""
    try:
        read_as(body, kind)
    except GoError as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, str(error)) from None


def _decode_tidy(decoder: msgspec.json.Decoder[F], body: bytes) -> F:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid request: {error}") from None
    except UNREADABLE:
        try:
            return decoder.decode(body.decode("utf-8", "replace").encode())
        except UNREADABLE as error:
            raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid JSON: {tell_unreadable(error)}") from None


def add_members(body: bytes, members: bytes) -> bytes:
    """The same object with more members, given as JSON without braces; of two of one name the later counts."""
    return b"%b,%b}" % (body.rstrip()[:-1], members)
