"""What a fault lets through, piece by piece, without sockets."""

from __future__ import annotations

import random

import pytest

from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.lab.wire_fault import Course, WireFault, read_wire_fault

PIECES = [b"abcdef", b"ghi", b"jklmnop"]


def run(fault: WireFault, seed: int = 1) -> tuple[bytes, bool]:
    """What passes of all pieces, and whether the end has struck by then."""
    course = Course(fault, random.Random(seed))
    passed = b""
    for piece in PIECES:
        if course.ends_now():
            return passed, True
        passed += b"".join(data for _, data in course.take(piece)[0])
    return passed, course.ends_now()


@pytest.mark.parametrize(
    ("fault", "passed", "ended"),
    [
        (WireFault(), b"abcdefghijklmnop", False),
        (WireFault(end="reset"), b"", True),
        (WireFault(end="reset", after_bytes=4), b"abcd", True),
        (WireFault(end="reset", after_bytes=6), b"abcdef", True),
        (WireFault(end="close", after_bytes=8), b"abcdefgh", True),
        (WireFault(end="close", after_chunks=2), b"abcdefghi", True),
        (WireFault(end="close", after_chunks=1, after_bytes=8), b"abcdefgh", True),
        (WireFault(end="close", after_chunks=2, after_bytes=3), b"abcdefghi", True),
        (WireFault(end="stall", after_bytes=99), b"abcdefghijklmnop", False),
        (WireFault(end="reset", share=0.0), b"abcdefghijklmnop", False),
        (WireFault(end="hang"), b"abcdefghijklmnop", False),
    ],
)
def test_an_end_comes_after_so_much(fault: WireFault, passed: bytes, ended: bool) -> None:
    assert run(fault) == (passed, ended)


def test_what_does_not_pass_is_told() -> None:
    assert Course(WireFault(end="stall", after_bytes=2), random.Random(1)).take(b"abcd") == ([(0.0, b"ab")], b"cd")


def test_slices_follow_each_other() -> None:
    pieces, rest = Course(WireFault(latency_ms=10, slice_bytes=2, slice_pause_ms=5), random.Random(1)).take(b"abcde")
    assert [(round(delay_s, 6), data) for delay_s, data in pieces] == [(0.01, b"ab"), (0.015, b"cd"), (0.02, b"e")]
    assert rest == b""


def test_jitter_and_shares_come_from_the_seed() -> None:
    def delays(seed: int) -> list[float]:
        course = Course(WireFault(latency_ms=5, jitter_ms=20), random.Random(seed))
        return [course.take(b"x")[0][0][0] for _ in range(50)]

    assert delays(1) == delays(1) != delays(2)
    assert all(0.005 <= delay_s <= 0.025 for delay_s in delays(3))
    struck = sum(run(WireFault(end="reset", share=0.3), seed)[1] for seed in range(400))
    assert 80 <= struck <= 160


def test_corruption_turns_one_bit() -> None:
    [(_, data)], _ = Course(WireFault(corrupt=1.0), random.Random(1)).take(bytes(100))
    assert sum(byte.bit_count() for byte in data) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b'{"end":"explode"}', b'{"share":2}', b'{"latency_ms":-1}', b'{"x":1}'])
def test_what_is_no_fault_is_refused(body: bytes) -> None:
    with pytest.raises(ProxyError, match="invalid fault"):
        read_wire_fault(body)
