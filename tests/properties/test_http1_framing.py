"""HTTP/1.1 in both directions: the same meaning however the bytes are cut, and the meaning that h11 gives them."""

from __future__ import annotations

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollama_proxy.net.lanes.framing import EventBuffer, LineBuffer, event_data
from tests.support.wire import Read, hear, read_with_h11, serve_bytes

token = st.text("abcXYZ-_09", min_size=1, max_size=8).map(lambda text: "X-" + text)
value = st.text("ab cd=;,09\"'", max_size=12).map(str.strip)
cuts = st.lists(st.integers(1, 40), max_size=40)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Read, bytes]:
    """A request and its bytes, written by h11."""
    method = draw(st.sampled_from(("GET", "POST", "PUT", "DELETE", "OPTIONS")))
    target = "/" + draw(st.text("abc/.%20?=&", max_size=12))
    pieces = draw(st.lists(st.binary(min_size=1, max_size=20), max_size=4))
    body = b"".join(pieces)
    framing = ("Transfer-Encoding", "chunked") if draw(st.booleans()) else ("Content-Length", str(len(body)))
    headers = [("Host", "x"), *draw(st.lists(st.tuples(token, value), max_size=4)), framing]
    writer = h11.Connection(h11.CLIENT)
    raw = writer.send(h11.Request(method=method, target=target, headers=headers)) or b""
    raw += b"".join(writer.send(h11.Data(data=piece)) or b"" for piece in pieces)
    raw += writer.send(h11.EndOfMessage()) or b""
    return (method.encode(), target.encode(), body), raw


@settings(max_examples=150, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=5), cuts, st.booleans())
def test_every_request_is_read_as_it_was_written_however_cut(
    written: list[tuple[Read, bytes]], sizes: list[int], late: bool
) -> None:
    data = b"".join(raw for _, raw in written)
    wanted = [meaning for meaning, _ in written]
    assert serve_bytes(data, sizes, late=late) == (wanted, [200] * len(wanted), False)


@settings(max_examples=40, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=2))
def test_every_request_is_read_byte_by_byte(written: list[tuple[Read, bytes]]) -> None:
    data = b"".join(raw for _, raw in written)
    assert serve_bytes(data, [1] * len(data))[0] == [meaning for meaning, _ in written]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Sound requests with a few bytes put in, taken out or changed, mostly where framing is."""
    data = bytearray(b"".join(raw for _, raw in draw(st.lists(requests(), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        put = draw(
            st.sampled_from(
                (
                    b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"0", b"\x00", b"\xff", b";", b"a",
                    b"\r\nContent-Length: 3", b"\r\nTransfer-Encoding: chunked", b"\r\nHost: y", b"0\r\n\r\n",
                )
            )
        )  # fmt: skip
        data[place : place + draw(st.integers(0, 2))] = put
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(mutated(), cuts)
@example(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", [])
def test_damaged_requests_mean_the_same_however_cut(data: bytes, sizes: list[int]) -> None:
    whole = serve_bytes(data, [])
    assert serve_bytes(data, sizes) == whole
    assert serve_bytes(data, sizes, late=True) == whole
    seen, statuses, _ = whole
    assert statuses[: len(seen)] == [200] * len(seen)
    assert len(statuses) - len(seen) <= 1
    assert all(400 <= status < 500 or status in (501, 505) for status in statuses[len(seen) :])


@settings(max_examples=300, deadline=None)
@given(mutated())
def test_where_two_readers_take_a_request_they_take_the_same_one(data: bytes) -> None:
    ours = serve_bytes(data, [])[0]
    theirs = read_with_h11(data)
    assert list(zip(ours, theirs, strict=False)) == [(one, one) for one in ours[: len(theirs)]]


# -- answers -----------------------------------------------------------------------


@st.composite
def answers(draw: st.DrawFn) -> tuple[int, bytes, bytes, bool]:
    """Status, body and bytes of an answer written by h11, and whether its end is that of the connection."""
    status = draw(st.sampled_from((200, 201, 204, 304, 400, 404, 429, 500, 503)))
    pieces = [] if status in (204, 304) else draw(st.lists(st.binary(min_size=1, max_size=20), max_size=5))
    body = b"".join(pieces)
    kind = draw(st.sampled_from(("length", "chunked", "close")))
    headers = draw(st.lists(st.tuples(token, value), max_size=4))
    if kind == "length":
        headers.append(("Content-Length", str(len(body))))
    elif kind == "close":
        headers.append(("Connection", "close"))
    old = kind == "close"
    writer = h11.Connection(h11.SERVER)
    writer.receive_data(b"GET / HTTP/1.%d\r\nHost: x\r\n\r\n" % (0 if old else 1))
    while not isinstance(writer.next_event(), h11.EndOfMessage):
        pass
    raw = b""
    if draw(st.booleans()) and not old:
        raw += writer.send(h11.InformationalResponse(status_code=103, headers=[("X-Early", "1")])) or b""
    raw += writer.send(h11.Response(status_code=status, headers=headers)) or b""
    raw += b"".join(writer.send(h11.Data(data=piece)) or b"" for piece in pieces)
    raw += writer.send(h11.EndOfMessage()) or b""
    return status, body, raw, old


@settings(max_examples=200, deadline=None)
@given(answers(), cuts)
def test_every_answer_is_read_as_it_was_written_however_cut(
    answer: tuple[int, bytes, bytes, bool], sizes: list[int]
) -> None:
    status, body, raw, close = answer
    heard = hear(raw, sizes, close=close)
    assert (heard.status, heard.body, heard.ends) == (status, body, ["complete"])
    assert not any(name == b"x-early" for name, _ in heard.headers)


@settings(max_examples=60, deadline=None)
@given(answers())
def test_every_answer_is_read_byte_by_byte(answer: tuple[int, bytes, bytes, bool]) -> None:
    status, body, raw, close = answer
    heard = hear(raw, [1] * len(raw), close=close)
    assert (heard.status, heard.body, heard.ends) == (status, body, ["complete"])


@settings(max_examples=200, deadline=None)
@given(answers(), st.data())
def test_an_answer_cut_anywhere_is_never_complete(answer: tuple[int, bytes, bytes, bool], data: st.DataObject) -> None:
    _, body, raw, close = answer
    if close:
        return  # its end is that of the connection
    heard = hear(raw[: data.draw(st.integers(0, len(raw) - 1))], [], close=True)
    assert heard.ends in (["CUT"], ["RESET"])
    assert body.startswith(heard.body)


@settings(max_examples=200, deadline=None)
@given(answers(), st.binary(min_size=1, max_size=40), cuts)
def test_damaged_answers_end_once_and_the_same_however_cut(
    answer: tuple[int, bytes, bytes, bool], rubbish: bytes, sizes: list[int]
) -> None:
    raw = answer[2]
    damaged = raw[: len(raw) // 2] + rubbish + raw[len(raw) // 2 :]
    whole = hear(damaged, [], close=True)
    assert len(whole.ends) == 1
    cut = hear(damaged, sizes, close=True)
    assert (cut.status, cut.body, cut.ends) == (whole.status, whole.body, whole.ends)


# -- events ------------------------------------------------------------------------

stream = st.lists(st.sampled_from((b"data: a", b"data:b", b": c", b"event: e", b"\n", b"\r\n", b"x")), max_size=30)


@settings(max_examples=300, deadline=None)
@given(stream.map(b"".join), cuts)
def test_any_stream_of_events_reads_the_same_however_cut(data: bytes, sizes: list[int]) -> None:
    buffer = EventBuffer()
    got: list[bytes] = []
    rest = data
    for size in [*sizes, len(data)]:
        got += buffer.feed(rest[:size])
        rest = rest[size:]
    assert got + event_data(buffer.rest()) == event_data(data)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from((b"{}", b"\n", b"\r\n", b"\r", b" ")), max_size=30).map(b"".join), cuts)
def test_any_stream_of_lines_reads_the_same_however_cut(data: bytes, sizes: list[int]) -> None:
    whole, cut = LineBuffer(), LineBuffer()
    got: list[bytes] = []
    rest = data
    for size in [*sizes, len(data)]:
        got += cut.feed(rest[:size])
        rest = rest[size:]
    assert got == whole.feed(data)
    assert cut.rest() == whole.rest()
