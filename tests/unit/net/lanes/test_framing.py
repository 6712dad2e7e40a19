"""Events keep their borders however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.net.lanes.framing import MAX_EVENT_BYTES, EventBuffer, EventTooLong, LineBuffer, event_data

cuts = st.lists(st.integers(1, 30), max_size=40)
lines = st.lists(st.binary(min_size=1, max_size=30).filter(lambda line: not set(line) & {10, 13}), max_size=10)


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(data[:size])
        data = data[size:]
    return [*found, data]


@settings(max_examples=300)
@given(lines, st.sampled_from((b"\n", b"\r\n")), cuts)
def test_lines_are_the_same_however_cut(wanted: list[bytes], end: bytes, sizes: list[int]) -> None:
    buffer = LineBuffer()
    data = b"".join(line + end for line in wanted)
    got = [line for piece in pieces(data, sizes) for line in buffer.feed(piece)]
    assert got == wanted
    assert buffer.rest() == b""


@settings(max_examples=300)
@given(lines, st.sampled_from((b"\n", b"\r\n", b"\r")), cuts)
def test_events_are_the_same_however_cut(wanted: list[bytes], end: bytes, sizes: list[int]) -> None:
    buffer = EventBuffer()
    data = b"".join(b"event: x" + end + b"data: " + one + end + end for one in wanted)
    got = [one for piece in pieces(data, sizes) for one in buffer.feed(piece)]
    # A final CR CR may be the beginning of CR CR LF; the end of the stream settles it.
    got += event_data(buffer.rest())
    assert got == wanted


@settings(max_examples=300)
@given(lines, cuts, st.sampled_from((LineBuffer, EventBuffer)))
def test_what_is_passed_on_ends_with_a_whole_event(
    wanted: list[bytes], sizes: list[int], kind: type[LineBuffer | EventBuffer]
) -> None:
    end = b"\n" if kind is LineBuffer else b"\n\n"
    data = b"".join(b"data:" + line + end for line in wanted)
    buffer = kind()
    passed = [buffer.feed_whole(piece) for piece in pieces(data, sizes)]
    assert b"".join(passed) + buffer.rest() == data
    assert all(piece.endswith(end) for piece in passed if piece)


def test_several_data_lines_are_joined_and_comments_dropped() -> None:
    assert event_data(b": ping\n\ndata: a\ndata:b\n\nevent: only\n\n") == [b"a\nb"]


@pytest.mark.parametrize("buffer", [LineBuffer(), EventBuffer()])
def test_an_event_without_end_is_refused(buffer: LineBuffer | EventBuffer) -> None:
    with pytest.raises(EventTooLong):
        buffer.feed_whole(b"x" * (MAX_EVENT_BYTES + 1))
