"""Records of decisions as lines of JSON, and back. One record has one spelling, so that the same inputs under the same
policy give the same bytes again.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from ollama_proxy.domain.lengths import Lengths
from ollama_proxy.routing.record import FORMAT, Record


class RecordError(ValueError):
    """What cannot be read as a record; the message is for people."""


def write_record(record: Record) -> bytes:
    """Canonical JSON, one line without its end. What is empty and by default so is left out; sets are in order."""
    return msgspec.json.encode(_plain(record))


def read_record(line: bytes | str) -> Record:
    """The record in a line of JSON. Raises `RecordError`."""
    try:
        record = _records.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise RecordError(f"this is no decision that can be replayed: {error}") from None
    if record.format != FORMAT:
        raise RecordError(f"the decision is written in format {record.format}; this version reads format {FORMAT}")
    return record


def _plain(value: Any) -> Any:
    """A value as JSON has it, each number with the type that its field says."""
    if isinstance(value, msgspec.Struct):
        found = {}
        for name, default, is_float in _fields_of(type(value)):
            part = getattr(value, name)
            if part or part != default:
                # An integer where a float belongs would come back as one, and be spelled otherwise.
                found[name] = float(part) if is_float and part is not None else _plain(part)
        return found
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Lengths):
        return [float(weight) for weight in value.weights]
    if isinstance(value, Mapping):
        return {name: _plain(value[name]) for name in sorted(value)}
    if isinstance(value, frozenset):
        return sorted(_plain(one) for one in value)
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


@cache
def _fields_of(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any, bool], ...]:
    """Of each field its name, its default, and whether it is a float."""
    found = []
    for field in msgspec.structs.fields(kind):
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        found.append((field.name, default, field.type in (float, float | None)))
    return tuple(found)


def _make_lengths(kind: type, value: Any) -> Any:
    if kind is not Lengths:
        raise TypeError(f"{kind.__name__} has no place in a record")
    return Lengths(msgspec.convert(value, tuple[float, ...]))


_records = msgspec.json.Decoder(Record, dec_hook=_make_lengths)
