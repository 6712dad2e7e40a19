"""Our HPACK decoder against two that are not ours: `hpack` (Python) and `jh2` (Rust)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import hpack
import pytest
from hpack.exceptions import HPACKError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollama_proxy.net.http2.errors import ConnectionFault, ErrorCode
from ollama_proxy.net.http2.hpack import Decoder
from tests.h2.hpack_blocks import blocks, broken_blocks, write_fields, write_huffman, write_integer, write_literal

jh2 = pytest.importorskip("jh2.hpack", reason="jh2 is not installed")
_HUGE = 1 << 30

Fields: TypeAlias = list[tuple[bytes, bytes]]
Reader: TypeAlias = Callable[[bytes], Fields | None]


def read_with_ours() -> Reader:
    decoder = Decoder()

    def read(block: bytes) -> Fields | None:
        try:
            return list(decoder.decode(block))
        except ConnectionFault as fault:
            return None if fault.code is ErrorCode.COMPRESSION_ERROR else [(b"ended with", fault.code.name.encode())]

    return read


def read_with_hpack() -> Reader:
    decoder = hpack.Decoder(max_header_list_size=_HUGE)

    def read(block: bytes) -> Fields | None:
        try:
            return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
        except HPACKError:
            return None

    return read


def read_with_jh2() -> Reader:
    decoder = jh2.Decoder(max_header_list_size=_HUGE)

    def read(block: bytes) -> Fields | None:
        try:
            return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
        except jh2.HPACKError:
            return None

    return read


def compare(sequence: list[bytes]) -> None:
    """Read the blocks of a connection with all three, up to the first that one of them refuses."""
    ours, python, rust = read_with_ours(), read_with_hpack(), read_with_jh2()
    for block in sequence:
        got, others = ours(block), (python(block), rust(block))
        if got is None:
            # Somebody must agree that it is wrong, or we would turn a good client away.
            assert None in others, f"only we refuse {block.hex()}"
            return
        assert got == others[0] == others[1], block.hex()


@settings(max_examples=600, deadline=None)
@given(st.lists(blocks(), min_size=1, max_size=6))
def test_good_connections_are_read_alike(sequence: list[bytes]) -> None:
    compare(sequence)


@settings(max_examples=600, deadline=None)
@given(st.lists(blocks(), max_size=3), broken_blocks())
def test_broken_blocks_are_refused_alike(sequence: list[bytes], broken: bytes) -> None:
    compare([*sequence, broken])


@settings(max_examples=600, deadline=None)
@given(st.binary(max_size=64))
def test_noise_is_read_alike(block: bytes) -> None:
    compare([block])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.binary(max_size=60)), max_size=20), st.booleans())
def test_what_an_encoder_writes_is_read(fields: Fields, huffman: bool) -> None:
    encoder, decoder = hpack.Encoder(), Decoder()
    for _ in range(2):
        assert list(decoder.decode(encoder.encode(fields, huffman=huffman))) == fields


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=80))
@example(bytes(range(256)))
def test_huffman_is_the_rfcs(text: bytes) -> None:
    coded = write_huffman(text)
    block = b"\x00\x01a" + write_integer(len(coded), 7, 0x80) + coded
    assert list(Decoder().decode(block)) == [(b"a", text)]


#: RFC 7541, Appendix C: three requests on one connection, plain and with Huffman codes.
RFC_EXAMPLES = {
    "C.3": (
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ),
    "C.4": (
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ),
}


@pytest.mark.parametrize("name", RFC_EXAMPLES)
def test_examples_of_the_rfc(name: str) -> None:
    decoder = Decoder()
    first, second, third = (dict(decoder.decode(bytes.fromhex(block))) for block in RFC_EXAMPLES[name])
    assert first == {b":method": b"GET", b":scheme": b"http", b":path": b"/", b":authority": b"www.example.com"}
    assert second[b"cache-control"] == b"no-cache"
    assert third[b":path"] == b"/index.html"
    assert third[b"custom-key"] == b"custom-value"


WRONG = {
    "index 0": b"\x80",
    "an index beyond the table": write_integer(62, 7, 0x80),
    "a name index beyond the table": write_integer(62, 6, 0x40) + b"\x00",
    "no value": b"\x00\x01a",
    "a string beyond the block": b"\x00\x01a\x05abc",
    "an integer without an end": b"\xff\xff",
    "an integer of many bytes": b"\xff" + b"\x80" * 20 + b"\x01",
    "an integer of 2^32": b"\xff\x80\x80\x80\x80\x10",
    "a size update after a field": b"\x82\x20",
    "a size update above the limit": write_integer(4097, 5, 0x20),
    "eight bits of Huffman padding": b"\x00\x01a\x82\x1f\xff",
    "Huffman padding of zeros": b"\x00\x01a\x81\x18",
    "EOS in a string": b"\x00\x01a\x84\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_blocks_are_compression_errors(name: str) -> None:
    with pytest.raises(ConnectionFault) as caught:
        Decoder().decode(WRONG[name])
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_an_entry_larger_than_the_table_empties_it() -> None:
    decoder = Decoder()
    decoder.decode(write_literal(b"kept", b"1", 0x40))
    assert list(decoder.decode(b"\xbe")) == [(b"kept", b"1")]
    decoder.decode(write_literal(b"large", bytes(4096), 0x40))
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\xbe")


def test_a_size_update_evicts_and_the_table_grows_again() -> None:
    decoder = Decoder()
    decoder.decode(write_literal(b"gone", b"1", 0x40))
    shrunk = write_integer(0, 5, 0x20) + write_integer(4096, 5, 0x20) + write_literal(b"new", b"2", 0x40)
    assert list(decoder.decode(shrunk)) == [(b"new", b"2")]
    assert list(decoder.decode(b"\xbe")) == [(b"new", b"2")]
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\xbf")


def test_a_list_that_grows_out_of_references_is_stopped_early() -> None:
    decoder = Decoder()
    decoder.decode(write_literal(b"a", bytes(4000), 0x40))
    with pytest.raises(ConnectionFault) as caught:
        decoder.decode(b"\xbe" * 8000)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_literals_are_read_as_written() -> None:
    fields = [(b"a", b"1"), (b"b" * 200, b"c" * 70_000)]
    assert list(Decoder().decode(write_fields(fields))) == fields
