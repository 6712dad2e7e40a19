"""JSON values as Go's `encoding/json` stores them in typed structures, with its own words when they do not fit.

Keys match without regard to case, the last of two equal ones wins, `null` leaves a field as it is, unknown fields are
skipped. What comes out is plain: dicts, lists, strings, numbers under the names of the table (`go_types.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ollama_proxy.net.bodies.go_syntax import GoError, Node, mend, read_first, unquote

_INTEGER = re.compile(rb"-?[0-9]+")
_FLOAT_MAX = 1.7976931348623157e308
_MOST_DIGITS_SHOWN = 500
#: The letters outside ASCII that fold to one inside.
_FOLDED = {"\N{LATIN SMALL LETTER LONG S}": "S", "\N{KELVIN SIGN}": "K"}


class GoType(msgspec.Struct, frozen=True):
    """A type of Go. `name` is how Go's errors call it; `kind` decides what fits.

    `pointer` means that null makes it absent. A `read` replaces everything: it gets the text of the value.
    """

    name: str
    kind: str
    bits: int = 64
    element: GoType | None = None
    fields: Mapping[str, GoType] = {}
    pointer: bool = False
    read: Callable[[bytes], Any] | None = None


class Misfit(GoError):
    """A value of the wrong kind. Decoders further out add where it was."""

    def __init__(self, value: str, type_name: str) -> None:
        super().__init__(value)
        self.value = value
        self.type_name = type_name
        self.struct = ""
        self.field = ""

    def __str__(self) -> str:
        target = f"struct field {self.struct}.{self.field}" if self.struct or self.field else "value"
        return f"json: cannot unmarshal {self.value} into Go {target} of type {self.type_name}"


def read_as(body: bytes, kind: GoType) -> Any:
    """The first value of a body as that type. Raises `GoError`."""
    return _Decoder(body).read(read_first(body), kind)


def tidy(body: bytes, kind: GoType) -> bytes:
    """The object a body begins with, for stricter readers: each field once and under its own name, nothing behind it.

    Values and unknown members stay as they are, but for what is no text in them. The body must have been read before.
    """
    node = read_first(body)
    members: dict[str, bytes] = {}
    for key, item in zip(node.keys, node.items, strict=True):
        text = unquote(key)
        name = _find(text, kind.fields) or text
        if item.kind != "null" or name not in members:
            members[name] = mend(body[item.start : item.end])
    return b"{%b}" % b",".join([b"%b:%b" % (msgspec.json.encode(name), value) for name, value in members.items()])


class _Decoder:
    """One call of Go's `Unmarshal`."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._struct = ""
        self._path: list[str] = []
        self._first_error: GoError | None = None

    def read(self, node: Node, kind: GoType) -> Any:
        """The value; the first error of several that do not stop the reading is raised at the end."""
        try:
            value = self._value(node, kind, None)
        except GoError as error:
            raise self._placed(error) from None
        if self._first_error is not None:
            raise self._first_error
        return value

    def _placed(self, error: GoError) -> GoError:
        if isinstance(error, Misfit) and (self._struct or self._path):
            error.struct = self._struct
            error.field = ".".join([*self._path, error.field] if error.field else self._path)
        return error

    def _save(self, error: GoError) -> None:
        if self._first_error is None:
            self._first_error = self._placed(error)

    def _value(self, node: Node, kind: GoType, known: Any) -> Any:
        """A value; `known` is what an earlier key of the same name left there."""
        if kind.read is not None and not (kind.pointer and node.kind == "null"):
            return kind.read(self._body[node.start : node.end])
        if node.kind == "null":
            return None if kind.pointer or kind.kind in ("any", "slice", "map", "bytes") else known
        found: Any
        match kind.kind, node.kind:
            case "any", _:
                found = self._any(node)
            case "struct", "object":
                found = self._struct_of(node, kind, known)
            case "map", "object":
                found = self._map_of(node, kind, known)
            case (("slice" | "bytes"), "array"):
                assert kind.element is not None
                found = [self._value(item, kind.element, None) for item in node.items]
            case _:
                found = self._scalar(node, kind, known)
        return found

    def _struct_of(self, node: Node, kind: GoType, known: Any) -> dict[str, Any]:
        found: dict[str, Any] = known or {}
        outer, depth = self._struct, len(self._path)
        for key, item in zip(node.keys, node.items, strict=True):
            name = _find(unquote(key), kind.fields)
            if name is None:
                continue
            self._struct = kind.name.rpartition(".")[2]
            self._path.append(name)
            value = self._value(item, kind.fields[name], found.get(name))
            if value is not None:
                found[name] = value
            else:
                found.pop(name, None)
            del self._path[depth:]
            self._struct = outer
        return found

    def _map_of(self, node: Node, kind: GoType, known: Any) -> dict[str, Any]:
        found: dict[str, Any] = known or {}
        assert kind.element is not None
        for key, item in zip(node.keys, node.items, strict=True):
            found[unquote(key)] = self._value(item, kind.element, None)
        return found

    def _scalar(self, node: Node, kind: GoType, known: Any) -> Any:
        text = self._body[node.start : node.end]
        match kind.kind, node.kind:
            case "string", "string":
                return unquote(text)
            case "bool", "bool":
                return text == b"true"
            case "bytes", "string":
                return self._base64(text)
            case (("int" | "uint"), "number"):
                return self._integer(text, kind, known)
            case "float", "number":
                return self._float(text, kind, known)
        self._save(Misfit(node.kind, kind.name))
        return known

    def _integer(self, text: bytes, kind: GoType, known: Any) -> Any:
        if _INTEGER.fullmatch(text) and len(text) <= 20:
            number = int(text)
            low, high = (-(1 << kind.bits - 1), 1 << kind.bits - 1) if kind.kind == "int" else (0, 1 << kind.bits)
            if low <= number < high:
                return number
        self._save(Misfit(_number(text), kind.name))
        return known

    def _float(self, text: bytes, kind: GoType, known: Any) -> Any:
        number = float(text)
        if abs(number) <= _FLOAT_MAX:
            return number
        self._save(Misfit(_number(text), kind.name))
        return known

    def _base64(self, literal: bytes) -> Any:
        text = unquote(literal)
        wrong = find_bad_base64(text.encode())
        if wrong is not None:
            self._save(GoError(f"illegal base64 data at input byte {wrong}"))
        return text

    def _any(self, node: Node) -> Any:
        """A value of no certain type. Numbers too large for Go are errors; what Python cannot hold is left out."""
        waiting = [node]
        while waiting:
            one = waiting.pop()
            waiting += reversed(one.items)
            if one.kind == "number":
                text = self._body[one.start : one.end]
                if abs(float(text)) > _FLOAT_MAX:
                    self._save(Misfit(_number(text), "float64"))
        return self._plain(node)

    def _plain(self, node: Node) -> Any:
        text = self._body[node.start : node.end]
        try:
            return msgspec.json.decode(text)
        except (ValueError, RecursionError):
            return None


def _number(text: bytes) -> str:
    """A number as errors name it; nobody wants to read the millionth digit."""
    shown = text if len(text) <= _MOST_DIGITS_SHOWN else text[: _MOST_DIGITS_SHOWN - 3] + b"..."
    return f"number {shown.decode()}"


def _find(key: str, fields: Mapping[str, GoType]) -> str | None:
    """The field of a key: by its exact name, else without regard to case."""
    if key in fields:
        return key
    folded = "".join(_FOLDED.get(char, char) for char in key)
    if not folded.isascii():
        return None
    folded = folded.lower()
    return next((name for name in fields if name.lower() == folded), None)


_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/\r\n]")
_LINE_ENDS = re.compile(rb"[\r\n]*+")


def find_bad_base64(text: bytes) -> int | None:
    """Where Go's decoder stumbles over base64 text with padding; None when it does not."""
    found = _NOT_BASE64.search(text)
    end = found.start() if found else len(text)
    filled = (end - text.count(b"\n", 0, end) - text.count(b"\r", 0, end)) % 4
    if found is None:
        return len(text) - filled if filled else None
    if text[end : end + 1] != b"=" or filled < 2:
        return end
    at = end + 1
    if filled == 2:
        at = _skip_line_ends(text, at)
        if at == len(text):
            return at
        if text[at : at + 1] != b"=":
            return at - 1
        at += 1
    at = _skip_line_ends(text, at)
    return at if at < len(text) else None


def _skip_line_ends(text: bytes, at: int) -> int:
    match = _LINE_ENDS.match(text, at)
    assert match is not None
    return match.end()
