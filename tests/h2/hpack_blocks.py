"""Header blocks for tests, written instruction by instruction: right ones in every form, and wrong ones."""

from __future__ import annotations

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import strategies as st

Block = bytes


def write_integer(value: int, prefix_bits: int, first: int = 0, padding: int = 0) -> bytes:
    """RFC 7541, 5.1; `padding` adds bytes that do not change the value."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    for _ in range(padding):
        out[-1] |= 128
        out.append(0)
    return bytes(out)


def write_huffman(text: bytes) -> bytes:
    """RFC 7541, 5.2, by the table of the RFC, bit by bit."""
    bits = "".join(f"{REQUEST_CODES[byte]:0{REQUEST_CODES_LENGTH[byte]}b}" for byte in text)
    bits += "1" * (-len(bits) % 8)
    return bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))


def write_string(text: bytes, *, huffman: bool = False, padding: int = 0) -> bytes:
    coded = write_huffman(text) if huffman else text
    return write_integer(len(coded), 7, 0x80 if huffman else 0, padding) + coded


def write_literal(name: bytes, value: bytes, kind: int = 0) -> bytes:
    """A literal with its name; `kind` is 0x40 (enters the table), 0x00 or 0x10 (never indexed)."""
    return bytes((kind,)) + write_string(name) + write_string(value)


def write_fields(fields: list[tuple[bytes, bytes]]) -> bytes:
    """A whole block of plain literals."""
    return b"".join(write_literal(name, value) for name, value in fields)


_texts = st.one_of(
    st.sampled_from([b"", b"a", b"x-name", b":path", b"/", b"\x00\xff", b"12345", b"grpc-timeout", b"20S"]),
    st.binary(max_size=40),
    st.binary(min_size=100, max_size=300),
)
_padding = st.sampled_from([0, 0, 0, 1, 2])


@st.composite
def _strings(draw: st.DrawFn) -> bytes:
    return write_string(draw(_texts), huffman=draw(st.booleans()), padding=draw(_padding))


@st.composite
def _literals(draw: st.DrawFn) -> bytes:
    kind, prefix = draw(st.sampled_from([(0x40, 6), (0x40, 6), (0x00, 4), (0x10, 4)]))
    index = draw(st.one_of(st.just(0), st.integers(1, 61), st.integers(62, 70)))
    head = write_integer(index, prefix, kind, draw(_padding))
    if index == 0:
        head += draw(_strings())
    return head + draw(_strings())


_indexed = st.one_of(st.integers(1, 61), st.integers(62, 66), st.integers(0, 200)).map(
    lambda index: write_integer(index, 7, 0x80)
)
_resizes = st.one_of(st.integers(0, 4096), st.sampled_from([0, 31, 32, 64, 4095, 4096])).map(
    lambda size: write_integer(size, 5, 0x20)
)


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    """A block of the right form: at most two size updates in front, then fields (whose indexes may not exist)."""
    updates = draw(st.one_of(st.just([]), st.lists(_resizes, max_size=2)))
    fields = draw(st.lists(st.one_of(_literals(), _indexed), max_size=8))
    return b"".join(updates + fields)


@st.composite
def broken_blocks(draw: st.DrawFn) -> Block:
    """A block that was right once: cut, changed in a byte, or with something that must not be there."""
    block = draw(blocks())
    how = draw(
        st.sampled_from(["cut", "change", "late update", "large update", "huge integer", "padding", "eos", "noise"])
    )
    if how == "cut":
        return block[: draw(st.integers(0, len(block)))]
    if how == "change" and block:
        at = draw(st.integers(0, len(block) - 1))
        return block[:at] + bytes((draw(st.integers(0, 255)),)) + block[at + 1 :]
    tails = {
        "late update": write_integer(1, 7, 0x80) + write_integer(100, 5, 0x20),
        "large update": write_integer(draw(st.integers(4097, 2**30)), 5, 0x20),
        "huge integer": b"\xff" + b"\xff" * draw(st.integers(4, 12)) + b"\x01",
        # Eight bits of padding; padding of zeros; EOS in the text.
        "padding": b"\x00\x01a" + draw(st.sampled_from([b"\x82\x1f\xff", b"\x81\x18", b"\x81\x00"])),
        "eos": b"\x00\x01a" + b"\x84\xff\xff\xff\xff",
        "noise": draw(st.binary(max_size=30)),
    }
    return block + tails.get(how, b"\x80")
