"""A model's name in bytes that otherwise pass as they come: the one rewrite of the fast lane."""

from __future__ import annotations

import json
import re
from functools import lru_cache

import msgspec

from ollama_proxy.domain.call import Call
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE, tell_unreadable

_MEMBER = rb'("model"\s*:\s*)'


class _Named(msgspec.Struct):
    model: msgspec.Raw = msgspec.Raw(b"")


_named = msgspec.json.Decoder(_Named)


def body_for(call: Call, model: str) -> bytes:
    """The call's raw body, asking for `model`; the very bytes where it does so already."""
    raw = call.raw
    assert raw is not None
    return raw.body if call.named and model == call.model else with_model(raw.body, model)


def with_model(body: bytes, model: str) -> bytes:
    """The same JSON object with another value of its member `model`; every other byte stays if that can be told.

    Raises `ProxyError` for what cannot be read.
    """
    try:
        old = bytes(_named.decode(body).model)
    except UNREADABLE as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid JSON: {tell_unreadable(error)}") from None
    found = list(re.finditer(_MEMBER + re.escape(old), body)) if old else []
    if len(found) == 1:
        match = found[0]
        changed = b"%b%b%b" % (body[: match.end(1)], _quote(model), body[match.end() :])
        # What was found stands deeper where the name of the member itself is written with escapes.
        if bytes(_named.decode(changed).model) == _quote(model):
            return changed
    try:
        document = msgspec.json.decode(body)
    except UNREADABLE as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"invalid JSON: {tell_unreadable(error)}") from None
    document["model"] = model
    return msgspec.json.encode(document)


class NameEcho:
    """Puts the client's name of a model where a server has put its own: once in each event, where answers name it."""

    __slots__ = ("_name", "_pattern")

    def __init__(self, there: str, name: str) -> None:
        self._pattern = _pattern_of(there)
        self._name = b"\\g<1>" + _quote(name).replace(b"\\", b"\\\\")

    def rewrite(self, data: bytes) -> bytes:
        """Whole events, or a whole body, with the name exchanged."""
        if data.count(b"\n") < 2:
            return self._pattern.sub(self._name, data, 1)
        return b"".join([self._pattern.sub(self._name, line, 1) for line in data.splitlines(keepends=True)])


@lru_cache(maxsize=256)
def _pattern_of(there: str) -> re.Pattern[bytes]:
    return re.compile(_MEMBER + re.escape(_quote(there)))


def _quote(name: str) -> bytes:
    return json.dumps(name, ensure_ascii=False).encode()


def echo_for(call: Call, model: str) -> NameEcho | None:
    """What answers to `call` need when the backend was asked for `model`; None when it echoes the client's own name."""
    return NameEcho(model, call.echo) if call.echo else None
