"""The parts of the smuggling check that can be wrong in silence: its streams, and what it calls a difference."""

from __future__ import annotations

from collections import Counter

from bench.reliability.smuggling.compare import differ_before_us, differ_behind_us
from bench.reliability.smuggling.mutator import make_stream
from tests.support.wire import serve_bytes

A = (b"GET", b"/s1/r0", b"")
B = (b"POST", b"/s1/r1", b"abc")
INNER = (b"GET", b"/s1/inner", b"")


def test_streams_are_the_same_for_the_same_seed_and_differ_otherwise() -> None:
    streams = [make_stream(1, number) for number in range(300)]
    assert streams == [make_stream(1, number) for number in range(300)]
    assert len(set(streams)) == 300
    assert make_stream(2, 0) != streams[0]


def test_some_streams_are_served_to_the_end_and_some_refused_in_the_middle() -> None:
    ends = Counter(served[0][-1][1].rpartition(b"/")[2] if served[0] else b"" for served in map(serve, range(150)))
    assert ends[b"last"] >= 30
    assert sum(ends.values()) - ends[b"last"] >= 30


def serve(number: int) -> tuple[list[tuple[bytes, bytes, bytes]], list[int], bool]:
    return serve_bytes(make_stream(1, number), [])


def test_fewer_requests_are_no_difference_and_more_or_others_are() -> None:
    assert differ_behind_us([A, B], [A, B]) == ""
    assert differ_behind_us([A, B], [B]) == ""
    assert differ_behind_us([A, B], []) == ""
    assert "/s1/inner" in differ_behind_us([A, B], [A, INNER])
    assert differ_behind_us([A, B], [B, A])
    assert differ_behind_us([A, B], [A, A])
    assert differ_behind_us([A, B], [A, (b"POST", b"/s1/r1", b"ab")])
    assert differ_behind_us([(b"GET", b"//s1/r0", b"")], [A]) == ""


def test_what_comes_out_must_have_gone_in() -> None:
    assert differ_before_us(Counter({b"/a": 1, b"/b": 2}), Counter({b"/a": 1, b"/b": 1})) == []
    assert differ_before_us(Counter({b"/a": 1}), Counter({b"/a": 2, b"/b": 1})) == [b"/a", b"/b"]
