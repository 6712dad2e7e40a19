"""JSON text as Go's `encoding/json` reads it: the first value of a body, or Go's own words for what is wrong with it.

Only asked when the ordinary decoder cannot make sense of a body, so it is written for exactness. What it costs is
bounded by the number of tokens, for long strings are one token each.
"""

from __future__ import annotations

import re
from typing import NoReturn

import msgspec

_MAX_DEPTH = 10_000
#: A body of more values than this is not worth the time of exact words.
_MAX_NODES = 20_000
#: Strings that are no text are read letter by letter; so many bytes of them are worth it, in all of a body.
_MAX_LOOSE_BYTES = 256 * 1024

_SPACE = re.compile(rb"[ \t\r\n]*+")
#: A part of a string's inside. Before Python 3.11.5, a group that keeps all it took (`*+`) stops inside a bad escape;
#: one that does not keep it takes memory for each escape, so it takes some at a time.
_INSIDE = re.compile(rb'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+){0,1000}')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?")
_WORDS = {ord("t"): (b"true", "bool"), ord("f"): (b"false", "bool"), ord("n"): (b"null", "null")}
_HEX = frozenset(b"0123456789abcdefABCDEF")
_ESCAPES = frozenset(b'bfnrt\\/"u')
_LITERAL = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ESCAPED = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_PLAIN = {b"b": "\b", b"f": "\f", b"n": "\n", b"r": "\r", b"t": "\t"}
_UNREAD = "\N{REPLACEMENT CHARACTER}"


class GoError(Exception):
    """What Go says of a body."""


class NothingThere(GoError):
    """A body without a value: Go's `EOF`."""


class TooMany(GoError):
    """A body of so many values, or so much that is no text, that nobody looks for the exact words."""


class Node(msgspec.Struct, gc=False):
    """One value of the text. `kind` is object, array, string, number, bool or null; an object's `keys` go with its
    `items`.
    """

    kind: str
    start: int
    end: int = 0
    keys: list[bytes] = []
    items: list[Node] = []


class _Syntax(Exception):
    """Where a value cannot go on, and in which context."""

    def __init__(self, at: int, context: str) -> None:
        super().__init__(context)
        self.at = at
        self.context = context


def read_first(body: bytes) -> Node:
    """The first value of a body; what comes behind it is nobody's business. Raises `GoError`."""
    try:
        top = _Scan(body).read()
    except _Syntax as error:
        if error.at < len(body):
            raise GoError(f"invalid character {_quote(body[error.at])} {error.context}") from None
        if body.strip(b" \t\r\n"):
            raise GoError("unexpected EOF") from None
        raise NothingThere("EOF") from None
    if top.end - top.start > _MAX_LOOSE_BYTES:
        _check_strings(body, top)
    return top


def _check_strings(body: bytes, top: Node) -> None:
    """Raise `TooMany` when too many bytes are in strings that are no text. Long strings that are text cost nothing."""
    left = _MAX_LOOSE_BYTES
    waiting = [top]
    while waiting:
        node = waiting.pop()
        waiting += node.items
        literals = [body[node.start : node.end]] if node.kind == "string" else node.keys
        left -= sum(len(literal) for literal in literals if _read_text(literal) is None)
        if left < 0:
            raise TooMany("too much that is no text in a body that cannot be read")


class _Scan:
    """One pass over a body; nesting is a list, since it may go deeper than Python does."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0
        self._open: list[Node] = []
        self._count = 0

    def read(self) -> Node:
        """The first value."""
        top = self._begin_value("looking for beginning of value")
        while self._open:
            node = self._open[-1]
            if not self._go_on(node):
                node.end = self._at
                self._open.pop()
        return top

    def _go_on(self, node: Node) -> bool:
        """One step inside a container: its next value, or its end (False)."""
        closing, context = (
            (b"}", "after object key:value pair") if node.kind == "object" else (b"]", "after array element")
        )
        byte = self._peek(context)
        if node.items:
            if byte == closing:
                self._at += 1
                return False
            if byte != b",":
                raise _Syntax(self._at, context)
            self._at += 1
        elif byte == closing:
            self._at += 1
            return False
        if node.kind == "object":
            node.keys.append(self._read_key())
        node.items.append(self._begin_value("looking for beginning of value"))
        return True

    def _read_key(self) -> bytes:
        if self._peek("looking for beginning of object key string") != b'"':
            raise _Syntax(self._at, "looking for beginning of object key string")
        start = self._at
        self._skip_string()
        key = self._body[start : self._at]
        if self._peek("after object key") != b":":
            raise _Syntax(self._at, "after object key")
        self._at += 1
        return key

    def _peek(self, context: str) -> bytes:
        """The next byte that is no space."""
        match = _SPACE.match(self._body, self._at)
        assert match is not None
        self._at = match.end()
        if self._at >= len(self._body):
            raise _Syntax(self._at, context)
        return self._body[self._at : self._at + 1]

    def _begin_value(self, context: str) -> Node:
        """A whole scalar, or a container that stays open."""
        self._count += 1
        if self._count > _MAX_NODES:
            raise TooMany("too many values in a body that cannot be read")
        byte = self._peek(context)
        start = self._at
        if byte in b"{[":
            node = Node("object" if byte == b"{" else "array", start, keys=[], items=[])
            self._open.append(node)
            if len(self._open) > _MAX_DEPTH:
                raise _Syntax(start, "exceeded max depth")
            self._at += 1
            return node
        if byte == b'"':
            self._skip_string()
            return Node("string", start, self._at)
        if byte in b"-0123456789":
            self._skip_number()
            return Node("number", start, self._at)
        word = _WORDS.get(byte[0])
        if word is None:
            raise _Syntax(start, context)
        self._skip_word(word[0])
        return Node(word[1], start, self._at)

    def _skip_string(self) -> None:
        body = self._body
        at, end = self._at, self._at + 1
        while end > at:
            at = end
            match = _INSIDE.match(body, at)
            assert match is not None
            end = match.end()
        if body[at : at + 1] == b'"':
            self._at = at + 1
            return
        if body[at : at + 1] != b"\\":
            raise _Syntax(at, "in string literal")
        if at + 1 >= len(body) or body[at + 1] not in _ESCAPES:
            raise _Syntax(at + 1, "in string escape code")
        at += 2
        while at < len(body) and body[at] in _HEX:
            at += 1
        raise _Syntax(at, "in \\u hexadecimal character escape")

    def _skip_number(self) -> None:
        body = self._body
        match = _NUMBER.match(body, self._at)
        if match is None:
            raise _Syntax(self._at + 1, "in numeric literal")
        end = match.end()
        rest = body[end : end + 2]
        text = body[match.start() : end]
        if rest[:1] == b"." and b"." not in text and b"e" not in text.lower():
            raise _Syntax(end + 1, "after decimal point in numeric literal")
        if rest[:1] in (b"e", b"E") and b"e" not in text.lower():
            raise _Syntax(end + (2 if rest[1:] in (b"+", b"-") else 1), "in exponent of numeric literal")
        self._at = end

    def _skip_word(self, word: bytes) -> None:
        for index in range(1, len(word)):
            at = self._at + index
            if self._body[at : at + 1] != word[index : index + 1]:
                raise _Syntax(at, f"in literal {word.decode()} (expecting '{chr(word[index])}')")
        self._at += len(word)


def unquote(literal: bytes) -> str:
    """The text of a string literal; what is no text becomes the replacement character."""
    text = _read_text(literal)
    return _unquote_loosely(literal[1:-1]) if text is None else text


def _read_text(literal: bytes) -> str | None:
    """The text of a string literal that is one for every reader."""
    try:
        return msgspec.json.decode(literal, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def mend(text: bytes) -> bytes:
    """A JSON value whose strings are text for every reader."""
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _LITERAL.sub(lambda match: msgspec.json.encode(unquote(match[0])), text)
    return text


def _unquote_loosely(inner: bytes) -> str:
    parts: list[str] = []
    at = 0
    for match in _ESCAPED.finditer(inner):
        parts.append(_decode(inner[at : match.start()]))
        digits, plain = match.groups()
        parts.append(chr(int(digits, 16)) if digits else _PLAIN.get(plain, plain.decode("latin-1")))
        at = match.end()
    parts.append(_decode(inner[at:]))
    return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _decode(data: bytes) -> str:
    """UTF-8 as Go reads it: a replacement character for each byte that belongs to none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "".join(
            _UNREAD if "\udc80" <= char <= "\udcff" else char for char in data.decode("utf-8", "surrogateescape")
        )


def _quote(byte: int) -> str:
    if byte == ord("'"):
        return r"'\''"
    if byte == ord('"'):
        return "'\"'"
    return f"'{quote(chr(byte))[1:-1]}'"


_SHORT = dict(zip('\a\b\f\n\r\t\v\\"', (f"\\{letter}" for letter in 'abfnrtv\\"'), strict=True))


def quote(text: str) -> str:
    """Text as Go's `%q` writes it."""
    return '"' + "".join(_SHORT.get(char) or _spell(char) for char in text) + '"'


def _spell(char: str) -> str:
    code = ord(char)
    if char.isprintable():
        return char
    if code < 32 or code == 127:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def fail(text: str) -> NoReturn:
    """End with Go's words."""
    raise GoError(text)
