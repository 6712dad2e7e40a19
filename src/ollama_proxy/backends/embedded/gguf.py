"""Writing a model's weights as GGUF, the file format of llama.cpp: a head of facts, then the tensors as they are."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import BinaryIO

import msgspec

_ALIGNMENT = 32
_VERSION = 3
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_F32 = 0
_PIECE = 1 << 20

Fact = bool | int | float | str | Sequence[str] | Sequence[int]


class Tensor(msgspec.Struct, frozen=True):
    """A tensor of 32-bit floats: its shape, the outermost dimension first, and where its bytes are in the source."""

    name: str
    shape: tuple[int, ...]
    begin: int
    size: int


def write_gguf(out: BinaryIO, facts: Mapping[str, Fact], tensors: Sequence[Tensor], source: BinaryIO) -> None:
    """Write a model; the tensors' bytes are copied from `source`. Texts in lists and texts are written as UTF-8."""
    head = [b"GGUF", struct.pack("<IQQ", _VERSION, len(tensors), len(facts))]
    head += [_text(name) + _value(fact) for name, fact in facts.items()]
    offset = 0
    for tensor in tensors:
        dims = tensor.shape[::-1]
        head.append(_text(tensor.name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, _F32, offset))
        offset += _padded(tensor.size)
    data = b"".join(head)
    out.write(data + bytes(_padded(len(data)) - len(data)))
    for tensor in tensors:
        source.seek(tensor.begin)
        left = tensor.size
        while left:
            piece = source.read(min(left, _PIECE))
            if not piece:
                raise OSError(f"the source ends within {tensor.name}")
            out.write(piece)
            left -= len(piece)
        out.write(bytes(_padded(tensor.size) - tensor.size))


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(fact: Fact) -> bytes:
    match fact:
        case bool():
            return struct.pack("<I?", _BOOL, fact)
        case int():
            return struct.pack("<II", _UINT32, fact)
        case float():
            return struct.pack("<If", _FLOAT32, fact)
        case str():
            return struct.pack("<I", _STRING) + _text(fact)
        case _:
            texts = [one for one in fact if isinstance(one, str)]
            numbers = [one for one in fact if isinstance(one, int)]
            kind = _STRING if texts else _INT32
            head = struct.pack("<IIQ", _ARRAY, kind, len(fact))
            return head + (b"".join(map(_text, texts)) if texts else struct.pack(f"<{len(numbers)}i", *numbers))
