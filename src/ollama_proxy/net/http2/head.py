"""The head of a request: its decoded fields, checked by RFC 9113, 8.2 and 8.3."""

from __future__ import annotations

import re
from typing import Any

from .hpack import Field

#: RFC 9110, 5.6.2, without capitals (RFC 9113, 8.2.1).
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
#: No control characters but the tabulator, no blanks at the ends.
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$")
_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_OF_THE_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
#: Short fields that were checked before: a head that is new is new in one of them, such as its deadline.
_sound: set[Field] = set()
_MOST_SOUND = 1024
_SHORT_BYTES = 64


class MalformedHead(Exception):
    """A head that breaks the rules; the text says which."""


class RequestHead:
    """A checked head. Requests whose blocks are equal bytes share one, so it is never changed.

    `route` and `notes` are for whoever serves the requests: what was found out about this head the first time.
    """

    __slots__ = ("authority", "content_length", "fields", "list_bytes", "method", "notes", "path", "route", "scheme")

    def __init__(self, pseudo: dict[bytes, bytes], fields: tuple[Field, ...], list_bytes: int) -> None:
        self.method = pseudo[b":method"]
        self.scheme = pseudo.get(b":scheme", b"")
        self.path = pseudo.get(b":path", b"")
        self.authority = pseudo.get(b":authority", b"")
        self.fields = fields
        self.list_bytes = list_bytes
        #: None when the client does not say.
        self.content_length = _read_length(fields)
        self.route: Any = None
        self.notes: dict[object, Any] = {}


def read_head(fields: list[Field]) -> RequestHead:
    """The head of a request. Raises `MalformedHead`."""
    pseudo: dict[bytes, bytes] = {}
    regular: list[Field] = []
    cookies: list[bytes] = []
    size = 0
    for field in fields:
        name, value = field
        size += len(name) + len(value) + 32
        if name[:1] == b":":
            if regular or cookies or name in pseudo or name not in _PSEUDO:
                raise MalformedHead(f"bad pseudo-header {name[:40]!r}")
            pseudo[name] = value
        elif name == b"cookie":
            cookies.append(value)
        else:
            regular.append(field)
        if field not in _sound:
            _check_field(name, value)
            if len(name) + len(value) <= _SHORT_BYTES:
                _remember(field)
    if cookies:
        regular.append((b"cookie", b"; ".join(cookies)))
    _check_pseudo(pseudo)
    _check_host(pseudo, regular)
    return RequestHead(pseudo, tuple(regular), size)


def check_trailers(fields: list[Field]) -> None:
    """The fields after a body. Raises `MalformedHead`."""
    for name, value in fields:
        if name[:1] == b":":
            raise MalformedHead("a pseudo-header in the trailers")
        _check_field(name, value)


def _remember(field: Field) -> None:
    if len(_sound) >= _MOST_SOUND:
        _sound.clear()
    _sound.add(field)


def _check_field(name: bytes, value: bytes) -> None:
    if name[:1] != b":" and not _NAME.fullmatch(name):
        raise MalformedHead(f"bad field name {name[:40]!r}")
    if _BAD_VALUE.search(value):
        raise MalformedHead(f"bad value of {name[:40]!r}")
    if name in _OF_THE_CONNECTION or (name == b"te" and value != b"trailers"):
        raise MalformedHead(f"{name.decode('latin-1')} is of HTTP/1.1")


def _check_pseudo(pseudo: dict[bytes, bytes]) -> None:
    if pseudo.get(b":method") == b"CONNECT":
        if b":scheme" in pseudo or b":path" in pseudo or not pseudo.get(b":authority"):
            raise MalformedHead("CONNECT has an authority, no scheme and no path")
        return
    for name in (b":method", b":scheme", b":path"):
        if not pseudo.get(name):
            raise MalformedHead(f"{name.decode()} is missing")
    path = pseudo[b":path"]
    if not path.startswith(b"/") and not (path == b"*" and pseudo[b":method"] == b"OPTIONS"):
        raise MalformedHead(":path must begin with a slash")


def _check_host(pseudo: dict[bytes, bytes], fields: list[Field]) -> None:
    """RFC 9113, 8.3.1: a Host field must not say otherwise than :authority."""
    hosts = [value for name, value in fields if name == b"host"]
    authority = pseudo.get(b":authority")
    if len(hosts) > 1 or (hosts and authority is not None and hosts[0].lower() != authority.lower()):
        raise MalformedHead("Host and :authority differ")


def _read_length(fields: tuple[Field, ...]) -> int | None:
    lengths = {value for name, value in fields if name == b"content-length"}
    if not lengths:
        return None
    value = lengths.pop()
    if lengths or not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise MalformedHead("bad content-length")
    return int(value)
