"""HPACK (RFC 7541): the decoder of a connection's header blocks, and literals for what we send.

We send literals only, so the size of the peer's table never matters. Huffman code and static table are the library's.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import TypeAlias

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from .errors import ConnectionFault, ErrorCode

Field: TypeAlias = tuple[bytes, bytes]

_STATIC: tuple[Field, ...] = (
    (b"", b""),
    *((bytes(name), bytes(value)) for name, value in HeaderTable.STATIC_TABLE),
)
_STATIC_COUNT = 61
#: RFC 7541, 4.1: what an entry counts beyond its text.
_ENTRY_BYTES = 32
#: Integers above this have no honest use; it also bounds their length.
_MAX_INTEGER = 2**28
_SHORT_BYTES = 256


class Decoder:
    """Decodes the blocks of one connection, in order. `changes` grows with every change of the dynamic table.

    `list_bytes` is the size of the last block's fields, as RFC 9113, 6.5.2 counts it.
    """

    def __init__(self, table_bytes: int = 4096, most_list_bytes: int = 1024 * 1024) -> None:
        self._allowed_bytes = self._table_bytes = table_bytes
        self._most_list_bytes = most_list_bytes
        self._table: deque[Field] = deque()
        self._used_bytes = 0
        self.changes = 0
        self.list_bytes = 0

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a whole block. Raises `ConnectionFault`: after a bad block the table is not in step."""
        try:
            return self._decode(block)
        except IndexError:
            raise _fault("the header block ends too early") from None

    def _decode(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        position, end, left = 0, len(block), self._most_list_bytes
        while position < end:
            byte = block[position]
            if byte & 0x80:
                index, position = _read_integer(block, position, 0x7F)
                field = self._find(index)
            elif byte & 0xE0 == 0x20:
                if fields:
                    raise _fault("a table size update after a field")
                size, position = _read_integer(block, position, 0x1F)
                self._resize(size)
                continue
            else:
                field, position = self._read_literal(block, position, byte)
            left -= len(field[0]) + len(field[1]) + _ENTRY_BYTES
            if left < 0:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "the header list is far too large")
            fields.append(field)
        self.list_bytes = self._most_list_bytes - left
        return fields

    def _read_literal(self, block: bytes, position: int, byte: int) -> tuple[Field, int]:
        """A literal field; with incremental indexing it also enters the table."""
        indexed = byte & 0x40
        index, position = _read_integer(block, position, 0x3F if indexed else 0x0F)
        if index:
            name = self._find(index)[0]
        else:
            name, position = _read_string(block, position)
        value, position = _read_string(block, position)
        field = name, value
        if indexed:
            self._insert(field)
        return field, position

    def _find(self, index: int) -> Field:
        if 0 < index <= _STATIC_COUNT:
            return _STATIC[index]
        index -= _STATIC_COUNT + 1
        if not 0 <= index < len(self._table):
            raise _fault("no such index in the header table")
        return self._table[index]

    def _insert(self, field: Field) -> None:
        self.changes += 1
        self._table.appendleft(field)
        self._used_bytes += len(field[0]) + len(field[1]) + _ENTRY_BYTES
        self._evict()

    def _resize(self, size: int) -> None:
        if size > self._allowed_bytes:
            raise _fault("a table size update above the limit")
        if size != self._table_bytes:
            self.changes += 1
            self._table_bytes = size
            self._evict()

    def _evict(self) -> None:
        while self._used_bytes > self._table_bytes:
            name, value = self._table.pop()
            self._used_bytes -= len(name) + len(value) + _ENTRY_BYTES


def _read_integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """RFC 7541, 5.1."""
    value = block[position] & mask
    position += 1
    if value < mask:
        return value, position
    shift = 0
    while True:
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if value > _MAX_INTEGER or shift > 35:
            raise _fault("an integer is too large")
        if byte < 0x80:
            return value, position


def _read_string(block: bytes, position: int) -> tuple[bytes, int]:
    """RFC 7541, 5.2."""
    huffman = block[position] & 0x80
    length, position = _read_integer(block, position, 0x7F)
    stop = position + length
    if stop > len(block):
        raise _fault("a string ends after its block")
    text = block[position:stop]
    if not huffman:
        return text, stop
    return (_decode_short(text) if length <= _SHORT_BYTES else _decode_huffman(text)), stop


@lru_cache(maxsize=2048)
def _decode_short(text: bytes) -> bytes:
    """Connections repeat each other's strings, so the last are kept for all; long ones would fill the memory."""
    return _decode_huffman(text)


def _decode_huffman(text: bytes) -> bytes:
    try:
        return bytes(decode_huffman(text))
    except HPACKDecodingError:
        raise _fault("a bad Huffman string") from None


def _fault(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, reason)


def encode_literal(name: bytes, value: bytes) -> bytes:
    """A field as a literal without indexing; the name must be lower case."""
    return b"\x00" + _encode_string(name) + _encode_string(value)


def _encode_string(text: bytes) -> bytes:
    size = len(text)
    if size < 0x7F:
        return bytes((size,)) + text
    out = bytearray(b"\x7f")
    size -= 0x7F
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out) + text


def encode_status(status: int) -> bytes:
    """The `:status` field."""
    index = _STATUS_INDEXES.get(status)
    return bytes((0x80 | index,)) if index else b"\x08" + _encode_string(b"%d" % status)


_STATUS_INDEXES = {int(value): index for index, (name, value) in enumerate(_STATIC) if name == b":status"}
