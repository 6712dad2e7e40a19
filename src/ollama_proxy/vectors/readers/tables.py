"""Structured text: each value beside its name, so that a passage from the middle still says what it is about."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import msgspec

from ollama_proxy.vectors.readers.problem import Unreadable

_MOST_DEPTH = 64
_MOST_FIELD_CHARS = 1_000_000


def read_json(text: str) -> str:
    """A line for each value: its path, and itself. Raises `Unreadable`."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise Unreadable("invalid_file", f"this is not JSON: {error}") from None
    if not isinstance(document, dict | list):
        return str(document)
    return "\n".join(_lines(document, "", 0))


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


def read_csv(text: str, separator: str) -> str:
    """A paragraph for each row: `name: value, name: value`. Raises `Unreadable`."""
    csv.field_size_limit(_MOST_FIELD_CHARS)
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    paragraphs = []
    try:
        names = next(rows, [])
        for row in rows:
            cells = [f"{_name(names, place)}: {cell}" for place, cell in enumerate(row) if cell.strip()]
            if cells:
                paragraphs.append(", ".join(cells))
    except csv.Error as error:
        raise Unreadable("invalid_file", f"line {rows.line_num} of the table cannot be read: {error}") from None
    return "\n\n".join(paragraphs) if paragraphs else ", ".join(names)


def _name(names: list[str], place: int) -> str:
    name = names[place].strip() if place < len(names) else ""
    return name or f"column {place + 1}"
