"""Packed bodies: what they come to, and that no form of them costs more than its bytes."""

from __future__ import annotations

import struct

import pytest

from ollama_proxy.net.bodies import unpacking
from ollama_proxy.net.bodies.unpacking import MAX_UNPACKED_BYTES, MOST_FRAMES, PackedBodyError, unpack_zstd, zstd

EMPTY = struct.pack("<II", 0x184D2A50, 0)
PIECE = 64 * 1024


class Counting:
    """A decompressor that notes how many bytes it was given."""

    given = 0

    def __init__(self, options: dict[int, int]) -> None:
        self._frame = zstd.ZstdDecompressor(options=options)

    def decompress(self, data: bytes, most: int) -> bytes:
        Counting.given += len(data)
        return self._frame.decompress(data, most)

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> type[Counting]:
    class Module:
        ZstdDecompressor = Counting
        ZstdError = zstd.ZstdError

    Counting.given = 0
    monkeypatch.setattr(unpacking, "zstd", Module)
    return Counting


def test_frames_are_joined_and_those_without_content_skipped() -> None:
    skipped = struct.pack("<II", 0x184D2A5F, 5) + b"12345"
    assert unpack_zstd(zstd.compress(b"one ") + skipped + EMPTY + zstd.compress(b"two") + EMPTY) == b"one two"
    assert unpack_zstd(b"") == b""


def test_a_long_body_is_read_piece_by_piece() -> None:
    data = bytes(range(256)) * 3000 + b"\n".join(str(number * number).encode() for number in range(100_000))
    assert unpack_zstd(zstd.compress(data) + zstd.compress(data)) == data + data


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{}", "invalid input: magic number mismatch"),
        (b"\x40\x2a\x4d\x18" + b"\0" * 4, "invalid input: magic number mismatch"),
        (b"\x28\xb5", "unexpected EOF"),
        (zstd.compress(b"text")[:-1], "unexpected EOF"),
        (EMPTY[:-2], "unexpected EOF"),
        (struct.pack("<II", 0x184D2A50, 0xFFFFFFFF), "unexpected EOF"),
        (zstd.compress(b"text") + b"rest", "invalid input: magic number mismatch"),
        (zstd.compress(bytes(MAX_UNPACKED_BYTES + 1)), "http: request body too large"),
        (zstd.compress(bytes(MAX_UNPACKED_BYTES)) + zstd.compress(b"x"), "http: request body too large"),
    ],
)
def test_what_is_no_packed_body_is_refused(body: bytes, text: str) -> None:
    with pytest.raises(PackedBodyError) as caught:
        unpack_zstd(body)
    assert caught.value.message == text


@pytest.mark.parametrize("frame", [EMPTY, zstd.compress(b"")])
def test_a_flood_of_empty_frames_is_refused_after_a_thousand(frame: bytes, counting: type[Counting]) -> None:
    assert unpack_zstd(frame * MOST_FRAMES) == b""
    counting.given = 0
    with pytest.raises(PackedBodyError, match="too many frames"):
        unpack_zstd(frame * 3_000_000)
    assert counting.given <= MOST_FRAMES * PIECE


def test_what_lies_behind_a_frame_is_not_given_to_it(counting: type[Counting]) -> None:
    body = zstd.compress(b"x") * 100 + struct.pack("<II", 0x184D2A50, 10_000_000) + bytes(10_000_000)
    assert unpack_zstd(body) == b"x" * 100
    assert counting.given <= 100 * PIECE
