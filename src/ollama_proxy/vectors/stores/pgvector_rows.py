"""Rows of a collection in the binary form of Postgres' COPY, which neither side has to read as text."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence

from ollama_proxy.vectors.index import Point

_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
#: Three fields, each behind its length: id, part, and what a vector begins with: how many numbers, and two bytes of 0.
_ROW = struct.Struct("!hiqiqihh")


def write_rows(points: Sequence[Point]) -> bytes:
    """All of it: `id bigint, part bigint, vector vector`."""
    found = [_HEAD]
    for point in points:
        numbers = array("f", point.vector)
        if sys.byteorder == "little":
            numbers.byteswap()
        count = len(numbers)
        found.append(_ROW.pack(3, 8, point.id, 8, point.group, 4 + 4 * count, count, 0))
        found.append(numbers.tobytes())
    found.append(_END)
    return b"".join(found)
