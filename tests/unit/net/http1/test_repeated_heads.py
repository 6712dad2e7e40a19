"""Heads that repeat themselves but for the length of the body: read by comparison, and as strictly as the first one."""

from __future__ import annotations

import tracemalloc
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.net.http1.answer_reader import AnswerReader
from ollama_proxy.net.http1.exchange import ExchangeOwner
from ollama_proxy.net.http1.limits import HttpLimits
from ollama_proxy.net.http1.request_reader import RequestReader
from tests.support.wire import hear, serve_bytes

LINES = st.lists(
    st.sampled_from(
        ("A: 1", "A: 2", "Content-Length: 0", "Content-Length: 1", "Content-Length: 2", "content-length: 1",
         "Content-Length: 1 ", "Content-Length: +1", "Content-Length:", "Transfer-Encoding: chunked",
         "Connection: close", "Connection: keep-alive", "Expect: 100-continue", "Host: y", "Upgrade: z",
         "CONTENT-LENGTH: 1")
    ),
    max_size=3,
)  # fmt: skip
PROBE = b"GET /probe HTTP/1.1\r\nHost: probe\r\n\r\n"
BODIES = st.sampled_from((b"", b"x", b"xy", b"1\r\nx\r\n0\r\n\r\n"))


def write(lines: list[str], body: bytes) -> bytes:
    return b"".join([b"POST /a HTTP/1.1\r\nHost: x\r\n", *(f"{line}\r\n".encode() for line in lines), b"\r\n", body])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(LINES, BODIES), min_size=2, max_size=2))
def test_a_second_head_means_what_it_would_alone(messages: list[tuple[list[str], bytes]]) -> None:
    first, second = (write(*message) for message in messages)
    read, statuses, closed = serve_bytes(first + PROBE, [])
    if closed or statuses[-1:] != [200] or read[1:] != [(b"GET", b"/probe", b"")]:
        return  # the first is refused, or does not end where it should
    alone = serve_bytes(second, [])
    together = serve_bytes(first + second, [len(first)])
    assert together == (read[:1] + alone[0], statuses[:-1] + alone[1], alone[2])


@pytest.mark.parametrize("name", [b"Content-Length", b"content-length", b"CONTENT-LENGTH"])
def test_lengths_change_from_request_to_request(name: bytes) -> None:
    bodies = [b"", b"x", b"xy" * 500, b"", b"x"]
    data = b"".join(b"POST /a HTTP/1.1\r\nHost: x\r\n%b: %d\r\n\r\n%b" % (name, len(one), one) for one in bodies)
    assert serve_bytes(data, []) == ([(b"POST", b"/a", one) for one in bodies], [200] * 5, False)
    assert serve_bytes(data, [1] * len(data))[0] == [(b"POST", b"/a", one) for one in bodies]


@pytest.mark.parametrize(
    "last", [b"Content-Length: 2\r\nContent-Length: 2", b"Content-Length: 2x", b"Content-Length: -2"]
)
def test_a_bad_length_behind_good_ones_is_refused(last: bytes) -> None:
    good = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nxy"
    bad = b"POST /a HTTP/1.1\r\nHost: x\r\n" + last + b"\r\n\r\nxy"
    assert serve_bytes(good * 2 + bad, []) == ([(b"POST", b"/a", b"xy")] * 2, [200, 200, 400], True)


def test_an_answer_of_no_length_is_heard_as_such() -> None:
    heard = hear(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [], close=False)
    assert (heard.status, heard.body, heard.ends, heard.kept) == (200, b"", ["complete"], True)


def test_a_length_known_from_elsewhere_is_held_against_this_servers_limit() -> None:
    message = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
    small, large = message % (10, b"x" * 10), message % (60, b"x" * 60)
    assert serve_bytes(large * 2, [len(large)])[1] == [200, 200]
    limits = HttpLimits(body_bytes=50)
    read, statuses, closed = serve_bytes(small + large, [len(small), len(large)], limits=limits)
    assert ([body for _, _, body in read], statuses, closed) == ([b"x" * 10], [200, 413], True)


def test_an_answer_without_a_body_behind_repeated_ones_has_none() -> None:
    reader, alone = AnswerReader(), AnswerReader()
    for _ in range(3):
        reader.begin()
        rest = reader.read_head(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
        assert rest == b"body"
        assert reader.ends_with(rest)
    reader.begin()
    alone.begin()
    for one in (reader, alone):
        rest = one.read_head(b"HTTP/1.1 204 No Content\r\n\r\nbody")
        assert rest == b"body"
        assert not one.ends_with(rest)
        assert one.read_body(rest) == b""
        assert (one.done, one.surplus) == (True, True)


def test_a_body_in_pieces_of_two_bytes_takes_no_more_than_its_size_and_a_read() -> None:
    limits, size = HttpLimits(), 1 << 18
    reader = RequestReader(cast(ExchangeOwner, None), "peer", limits)
    reader.feed(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert reader.next() is None
    tracemalloc.start()
    for _ in range(size // 2 // 8192):
        reader.feed(b"2\r\nab\r\n" * 8192)
        assert reader.next() is None
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reader.feed(b"0\r\n\r\n")
    exchange = reader.next()
    assert exchange is not None
    assert exchange.body == b"ab" * (size // 2)
    assert peak_bytes < 3 * size
