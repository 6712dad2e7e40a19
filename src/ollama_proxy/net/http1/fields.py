"""Field lines of heads and trailers (RFC 9112, 5), read strictly; a line that was seen before costs one look-up.

Clients and servers send the same lines with every message, so a line is checked against the grammar once and
remembered by its bytes. Lines that hold a secret are checked each time and not kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Header = tuple[bytes, bytes]
Headers = list[Header]

#: RFC 9110, 5.1 and 5.5: a token, a colon, then visible bytes and blanks; no fold, no NUL, no other control.
_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Names whose values are nobody's to keep.
_SECRET = re.compile(rb"auth|cookie|credential|key|password|secret|signature|token")
_MOST_SEEN = 2048
#: How the line that tells a body's length begins in nearly all heads, and how long a head may be to be kept as an
#: example of the next one, which differs in that line only.
LENGTH_MARKS = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
LONGEST_KNOWN_BYTES = 2048
_LONGEST_SEEN_BYTES = 160


class BadField(ValueError):
    """A line that is no field; the text says so."""


class _SeenFields(dict[bytes, Header]):
    """Fields by their line, without its end; what is missing is read."""

    def __missing__(self, line: bytes) -> Header:
        if not _LINE.fullmatch(line):
            raise BadField("a field line must be a name, a colon and a value of visible characters")
        name, _, value = line.partition(b":")
        name = name.lower()
        field = (name, value.strip(b" \t"))
        if len(line) <= _LONGEST_SEEN_BYTES and not _SECRET.search(name):
            if len(self) >= _MOST_SEEN:
                self.clear()
            self[line] = field
        return field


#: Reads one field line: name in lower case and value without the blanks around it. Raises `BadField`.
read_field: Callable[[bytes], Header] = _SeenFields().__getitem__


def read_fields(lines: list[bytes]) -> Headers:
    """All the lines of a head. Raises `BadField`."""
    return list(map(read_field, lines))


def index_fields(fields: Headers) -> dict[bytes, bytes]:
    """The first value of each name."""
    index = dict(fields)
    return index if len(index) == len(fields) else dict(reversed(fields))


def count_field(fields: Headers, name: bytes) -> int:
    """How many lines have this name."""
    return sum(1 for key, _ in fields if key == name)


def read_tokens(fields: Headers, name: bytes) -> frozenset[bytes]:
    """The members of a list-valued field over all its lines, in lower case; empty members are left out."""
    parts = [part for key, value in fields if key == name for part in value.lower().split(b",")]
    return frozenset(part for part in (part.strip(b" \t") for part in parts) if part)


def is_token(text: bytes) -> bool:
    """Whether it is one word by RFC 9110, 5.6.2."""
    return _TOKEN.fullmatch(text) is not None
