"""One field of a multipart form (RFC 7578), read or replaced without taking the rest apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import Message

import msgspec

_NAME = re.compile(rb'^content-disposition:[^\r\n]*;\s*name="?([^";\r\n]*)"?', re.IGNORECASE | re.MULTILINE)
_FILE_NAME = re.compile(rb'^content-disposition:[^\r\n]*;\s*filename="?([^";\r\n]*)"?', re.IGNORECASE | re.MULTILINE)
#: What of a part's head is read in one way by everybody. Readers differ in the rest, and a name that only some of them
#: find must not be the one of the model.
_ONE = rb';[ \t]*[\w*-]+=(?:"(?:[^"\\]|\\.)*+"|[^";\s\\]*+)[ \t]*+'
_FIELD = re.compile(rb"content-disposition:[ \t]*form-data[ \t]*((?:%b)*+);?" % _ONE, re.IGNORECASE)
_PARAMETER = re.compile(rb';[ \t]*([\w*-]+)=(?:"((?:[^"\\]|\\.)*+)"|([^";\s\\]*+))')
#: A line that goes on in the next, or ends as only some readers take for an end.
_LINE_FAULT = re.compile(rb"\r\n[ \t]|(?<!\r)\n|\r(?!\n)")
#: What is behind a boundary.
_OPENED = re.compile(rb"[ \t]*+\r\n")
_CLOSED = re.compile(rb"--[ \t]*+(?:\r\n|\Z)")
_BOUNDARY = re.compile(rb";\s*boundary", re.IGNORECASE)
_MALFORMED = "malformed MIME header or boundary"
_MOST_HEAD_BYTES = 8 * 1024
#: As many as Go reads.
MOST_PARTS = 1000
_NO_FORM = "request Content-Type isn't multipart/form-data"


class FormError(Exception):
    """A body that is no form; the message is Go's."""


def read_boundary(content_type: bytes) -> bytes:
    """The boundary that a `Content-Type` names. Raises `FormError`."""
    head = Message()
    head["Content-Type"] = content_type.decode("latin-1").replace("\n", " ").replace("\r", " ")
    try:
        boundary = head.get_boundary()
    except (ValueError, TypeError, LookupError):
        # Parameters in pieces (RFC 2231) can be put so that Python's reader trips over them.
        raise FormError(_NO_FORM) from None
    if head.get_content_type() != "multipart/form-data":
        raise FormError(_NO_FORM)
    if not boundary:
        raise FormError("no multipart boundary param in Content-Type")
    if len(_BOUNDARY.findall(content_type)) > 1 or b"\\" in content_type:
        # By another boundary the same body is another form.
        raise FormError("mime: duplicate parameter name")
    return boundary.encode("latin-1", "replace")


def find_field(body: bytes, boundary: bytes, name: bytes) -> tuple[int, int] | None:
    """Where the value of a field begins and ends; None when the form has no such field.

    Raises `FormError` when it has two, or readers may differ in what it has, or has more parts than anybody reads.
    """
    mark = b"--" + boundary
    begin = body.find(mark)
    if begin < 0:
        return None
    if begin and body[begin - 2 : begin] != b"\r\n":
        raise FormError(_MALFORMED)
    place: tuple[int, int] | None = None
    for _ in range(MOST_PARTS + 1):
        head = begin + len(mark)
        if _CLOSED.match(body, head):
            return place
        value = body.find(b"\r\n\r\n", head, head + _MOST_HEAD_BYTES)
        end = body.find(b"\r\n" + mark, head)
        if end < 0:
            return place
        if value < 0 or end < value + 4 or not _OPENED.match(body, head):
            raise FormError(_MALFORMED)
        if _read_name(body[head:value]) == name:
            if place is not None:
                raise FormError(f"multipart: more than one field {name.decode()}")
            place = value + 4, end
        begin = end + 2
    raise FormError("multipart: too many parts")


def _read_name(head: bytes) -> bytes:
    """The name of a part; b"" for one without. Raises `FormError` for a head that can be read in more than one way."""
    lines = [line for line in head.split(b"\r\n") if line[:19].lower() == b"content-disposition"]
    found = _FIELD.fullmatch(lines[0]) if lines else None
    if len(lines) > 1 or (lines and found is None) or _LINE_FAULT.search(head):
        raise FormError(_MALFORMED)
    parameters = _PARAMETER.findall(found[1]) if found else []
    names = [(key, quoted or plain) for key, quoted, plain in parameters if key[:4].lower() == b"name"]
    if len(names) > 1 or any(len(key) > 4 or b"\\" in name for key, name in names):
        raise FormError(_MALFORMED)
    return names[0][1] if names else b""


def with_field(body: bytes, boundary: bytes, name: bytes, value: bytes) -> bytes:
    """The same form with another value of one field, which it gets when it has none. Raises `FormError`."""
    place = find_field(body, boundary, name)
    if place is not None:
        return b"%b%b%b" % (body[: place[0]], value, body[place[1] :])
    part = b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (boundary, name, value)
    return part + body


class Part(msgspec.Struct, frozen=True):
    """One field; `file_name` is "" for what is no file."""

    name: str
    file_name: str
    value: bytes


def read_parts(body: bytes, boundary: bytes) -> Iterator[Part]:
    """All fields of a form, in order. Raises `FormError` for one that breaks off, or has too many."""
    mark = b"--" + boundary
    begin = 0 if body.startswith(mark) else body.find(b"\r\n" + mark) + 2
    if begin < 2 and not body.startswith(mark):
        raise FormError("multipart: the boundary is not in the body")
    for _ in range(MOST_PARTS):
        head = begin + len(mark)
        if body[head : head + 2] == b"--":
            return
        value = body.find(b"\r\n\r\n", head, head + _MOST_HEAD_BYTES)
        end = body.find(b"\r\n" + mark, max(head, value))
        if value < 0 or end < value + 4 - 2:
            raise FormError("multipart: NextPart: EOF")
        lines = body[head:value]
        name, file_name = _NAME.search(lines), _FILE_NAME.search(lines)
        if name is not None:
            yield Part(_text(name[1]), _text(file_name[1]) if file_name else "", body[value + 4 : end])
        begin = end + 2
    raise FormError("multipart: too many parts")


def _text(value: bytes) -> str:
    """A name, with what browsers escape in it (WHATWG, multipart form data)."""
    return value.replace(b"%22", b'"').replace(b"%0D", b"\r").replace(b"%0A", b"\n").decode("utf-8", "replace")
