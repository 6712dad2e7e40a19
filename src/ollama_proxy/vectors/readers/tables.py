"""Structured text: each value beside its name, so that a passage from the middle still says what it is about."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from ollama_proxy.vectors.readers.problem import Unreadable

_MOST_DEPTH = 64
_MOST_FIELD_CHARS = 1_000_000


def read_json(text: str, most_chars: int) -> str:
    """A line for each value: its path, and itself. Raises `Unreadable`."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise Unreadable("invalid_file", f"this is not JSON: {error}") from None
    if not isinstance(document, dict | list):
        return str(document)
    return "\n".join(_bound(_lines(document, "", 0), most_chars))


def _bound(pieces: Iterable[str], most_chars: int) -> list[str]:
    """The pieces, as long as they are: names and paths are said again with each value, and so a text grows."""
    found: list[str] = []
    left = most_chars
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise Unreadable("invalid_file", f"the file has more than {most_chars} characters of text")
        found.append(piece)
    return found


def _lines(value: Any, path: str, depth: int) -> Iterator[str]:
    if depth > _MOST_DEPTH:
        raise Unreadable("invalid_file", f"the JSON is more than {_MOST_DEPTH} deep")
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lines(inner, f"{path}.{key}" if path else key, depth + 1)
        if not depth or isinstance(value, dict):
            yield ""
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _lines(inner, f"{path}[{place}]", depth + 1)
    elif value is not None:
        yield f"{path}: {value}"


def read_csv(text: str, separator: str, most_chars: int) -> str:
    """A paragraph for each row: `name: value, name: value`. Raises `Unreadable`."""
    csv.field_size_limit(_MOST_FIELD_CHARS)
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        names = next(rows, [])
        paragraphs = _bound((_say(names, row) for row in rows if any(map(str.strip, row))), most_chars)
    except csv.Error as error:
        raise Unreadable("invalid_file", f"line {rows.line_num} of the table cannot be read: {error}") from None
    return "\n\n".join(paragraphs) if paragraphs else ", ".join(names)


def _say(names: list[str], row: list[str]) -> str:
    return ", ".join(f"{_name(names, place)}: {cell}" for place, cell in enumerate(row) if cell.strip())


def _name(names: list[str], place: int) -> str:
    name = names[place].strip() if place < len(names) else ""
    return name or f"column {place + 1}"
