"""RFC 9112 for answers, case by case: what is read, what is garbage, whole, byte by byte and with a tail.

Each row names its section of RFC 9112 (or of RFC 9110, as `9110 x`). An upstream in doubt is not believed: the answer
fails and its connection is never used again.
"""

from __future__ import annotations

import h11
import pytest

from tests.support.wire import hear

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def length(value: bytes, body: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %b\r\n\r\n%b" % (status, value, body)


#: Section, bytes, status, body: complete by its framing, and the connection is kept.
KEPT: list[tuple[str, bytes, int, bytes]] = [
    ("6.3 a length", length(b"2", b"hi"), 200, b"hi"),
    ("6.3 a length of nought", length(b"0"), 200, b""),
    ("6.2 leading zeros", length(b"002", b"hi"), 200, b"hi"),
    ("6.3 chunked", CHUNKED + b"1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", 200, b"hi"),
    ("6.3 chunked, nothing in it", CHUNKED + b"0\r\n\r\n", 200, b""),
    ("7.1 two digits", CHUNKED + b"12\r\n%b\r\n0\r\n\r\n" % (b"a" * 18), 200, b"a" * 18),
    ("7.1 two chunks", CHUNKED + b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n", 200, b"ab"),
    ("7.1.1 extensions", CHUNKED + b"2;a=b\r\nhi\r\n0;c\r\n\r\n", 200, b"hi"),
    ("7.1.2 trailers", CHUNKED + b"2\r\nhi\r\n0\r\nX-Sum: 1\r\nServer-Timing: a;dur=1\r\n\r\n", 200, b"hi"),
    ("6.1 chunked in any case", OK + b"transfer-encoding: CHUNKED\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 200, b"hi"),
    ("6.3 204 has no body", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    ("6.3 204 with a length", length(b"5", status=b"204 No Content"), 204, b""),
    ("6.3 304 with a length", length(b"5", status=b"304 Not Modified"), 304, b""),
    ("6.3 304 with a coding", b"HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n", 304, b""),
    ("9110 15.2 100 first", b"HTTP/1.1 100 Continue\r\n\r\n" + length(b"1", b"x"), 200, b"x"),
    ("9110 15.2 102, 103 first", b"HTTP/1.1 102 x\r\n\r\nHTTP/1.1 103\r\nA: b\r\n\r\n" + length(b"1", b"x"), 200, b"x"),
    ("4 no reason", length(b"1", b"x", b"200 "), 200, b"x"),
    ("4 no reason and no blank, as some servers send", length(b"1", b"x", b"200"), 200, b"x"),
    ("4 a reason of anything", length(b"1", b"x", b"200 \xe4 b\tc"), 200, b"x"),
    ("9110 15 an unknown status", length(b"1", b"x", b"299 Odd"), 299, b"x"),
    ("9110 15 a status beyond 599", length(b"1", b"x", b"799 Odd"), 799, b"x"),
    ("9110 15.5 an error with a body", length(b"2", b"{}", b"503 Busy"), 503, b"{}"),
    ("9.3 1.0 with keep-alive", b"HTTP/1.0 200 OK\r\nConnection:keep-alive\r\nContent-Length:1\r\n\r\nx", 200, b"x"),
    ("2.3 a higher minor version", b"HTTP/1.2 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    ("5 blanks around values", OK + b"Content-Length: \t 1 \t\r\n\r\nx", 200, b"x"),
    ("5 many fields alike", OK + b"Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    ("9.6 an unknown connection option", OK + b"Connection: x\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
]  # fmt: skip

#: Complete by its framing, and the connection is not kept.
DROPPED: list[tuple[str, bytes, int, bytes]] = [
    ("9.6 close", OK + b"Connection: close\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    ("9.6 close among others", OK + b"Connection: a, CLOSE\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    ("9.6 close in a second line", OK + b"Connection: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    ("9.3 HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x"),
    ("9.2 bytes behind the end", length(b"1", b"xy"), 200, b"x"),
    ("9.2 an answer nobody asked for", length(b"1", b"x") + length(b"4", b"evil"), 200, b"x"),
    ("9.2 bytes behind a chunked end", CHUNKED + b"0\r\n\r\nx", 200, b""),
    ("9.2 a line end behind the end", length(b"1", b"x\r\n"), 200, b"x"),
    ("9.2 a body where there is none", b"HTTP/1.1 204 x\r\n\r\nbody", 204, b""),
]

#: Complete when the connection ends.
ENDED: list[tuple[str, bytes, int, bytes]] = [
    ("6.3 no length", OK + b"\r\nhi", 200, b"hi"),
    ("6.3 no length, no body", OK + b"\r\n", 200, b""),
    ("6.3 no length, close said", OK + b"Connection: close\r\n\r\nhi", 200, b"hi"),
    ("6.3 HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nhi", 200, b"hi"),
    ("6.3 HTTP/1.0 that says keep-alive", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhi", 200, b"hi"),
    ("6.3 an error without length", b"HTTP/1.1 500 x\r\n\r\noh", 500, b"oh"),
]  # fmt: skip

#: Cut off by the end of the connection: what was heard, and how it ends.
CUT: list[tuple[str, bytes, int, bytes, str]] = [
    ("8 nothing at all", b"", 0, b"", "RESET"),
    ("8 in the status line", b"HTTP/1.1 20", 0, b"", "RESET"),
    ("8 in the fields", OK + b"Content-Le", 0, b"", "RESET"),
    ("8 before the empty line", OK + b"Content-Length: 1\r\n", 0, b"", "RESET"),
    ("8 behind an interim answer", b"HTTP/1.1 100 Continue\r\n\r\n", 0, b"", "RESET"),
    ("8 before the body", length(b"2"), 200, b"", "CUT"),
    ("8 in the body", length(b"3", b"hi"), 200, b"hi", "CUT"),
    ("8 before the first chunk", CHUNKED, 200, b"", "CUT"),
    ("8 in a chunk's size", CHUNKED + b"1", 200, b"", "CUT"),
    ("8 in a chunk", CHUNKED + b"5\r\nhi", 200, b"hi", "CUT"),
    ("8 behind a chunk", CHUNKED + b"2\r\nhi\r\n", 200, b"hi", "CUT"),
    ("8 in the last chunk", CHUNKED + b"2\r\nhi\r\n0\r\n", 200, b"hi", "CUT"),
    ("8 in the trailers", CHUNKED + b"2\r\nhi\r\n0\r\nX: y\r\n", 200, b"hi", "CUT"),
    ("8 one byte short", CHUNKED + b"2\r\nhi\r\n0\r\n\r", 200, b"hi", "CUT"),
]

#: Garbage: what was heard before it showed.
GARBAGE: list[tuple[str, bytes, int, bytes]] = [
    ("4 another protocol", b"SSH-2.0-x\r\n\r\n", 0, b""),
    ("4 HTML", b"<html></html>", 0, b""),
    ("4 ICY", b"ICY 200 OK\r\n\r\n", 0, b""),
    ("4 HTTP/2.0", b"HTTP/2.0 200 OK\r\n\r\n", 0, b""),
    ("4 HTTP/0.9", b"HTTP/0.9 200 OK\r\n\r\n", 0, b""),
    ("4 lower case", b"http/1.1 200 OK\r\n\r\n", 0, b""),
    ("4 two digits of status", b"HTTP/1.1 20 OK\r\n\r\n", 0, b""),
    ("4 four digits of status", b"HTTP/1.1 2000 OK\r\n\r\n", 0, b""),
    ("4 a status below 100", b"HTTP/1.1 099 OK\r\n\r\n", 0, b""),
    ("4 a status that is no number", b"HTTP/1.1 2x0 OK\r\n\r\n", 0, b""),
    ("4 two blanks", b"HTTP/1.1  200 OK\r\n\r\n", 0, b""),
    ("4 a control character in the reason", b"HTTP/1.1 200 O\x01\r\n\r\n", 0, b""),
    ("2.2 bare LF", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", 0, b""),
    ("2.2 bare LF in the fields", OK + b"A: b\nContent-Length: 0\r\n\r\n", 0, b""),
    ("2.2 an empty line before the answer", b"\r\n" + length(b"0"), 0, b""),
    ("5.1 a blank before the colon", OK + b"Content-Length : 0\r\n\r\n", 0, b""),
    ("5.2 obs-fold", OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n", 0, b""),
    ("5 a line without a colon", OK + b"Junk\r\nContent-Length: 0\r\n\r\n", 0, b""),
    ("9110 5.5 NUL in a value", OK + b"X: a\x00\r\nContent-Length: 0\r\n\r\n", 0, b""),
    ("6.3 a coding and a length", OK + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", 0, b""),
    ("6.3 two lengths that differ", OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 0, b""),
    ("6.3 two lengths alike may be refused", OK + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 0, b""),
    ("6.3 a list of lengths", length(b"1, 2", b"ab"), 0, b""),
    ("6.2 a sign", length(b"+1", b"a"), 0, b""),
    ("6.2 a hexadecimal length", length(b"0x1", b"a"), 0, b""),
    ("6.2 an empty length", length(b""), 0, b""),
    ("6.2 a length beyond every integer", length(b"9" * 30), 0, b""),
    ("6.1 another coding", OK + b"Transfer-Encoding: gzip\r\n\r\nx", 0, b""),
    ("6.1 another coding under chunked", OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0, b""),
    ("6.1 chunked twice", OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 0, b""),
    ("6.1 a coding in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, b""),
    ("9110 15.2.2 an upgrade unasked for", b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 0, b""),
    ("7.1 no size", CHUNKED + b"\r\nhi\r\n0\r\n\r\n", 200, b""),
    ("7.1 a size that is no number", CHUNKED + b"2\r\nhi\r\nxyz\r\n", 200, b"hi"),
    ("7.1 a blank behind the size", CHUNKED + b"2 \r\nhi\r\n0\r\n\r\n", 200, b""),
    ("7.1 a prefix", CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n", 200, b""),
    ("7.1 seventeen digits", CHUNKED + b"10000000000000002\r\nhi\r\n0\r\n\r\n", 200, b""),
    ("7.1 bare LF behind the size", CHUNKED + b"2\nhi\r\n0\r\n\r\n", 200, b""),
    ("7.1 more data than the size", CHUNKED + b"2\r\nhid\r\n0\r\n\r\n", 200, b"hi"),
    ("7.1 bare LF behind the data", CHUNKED + b"2\r\nhi\n0\r\n\r\n", 200, b"hi"),
    ("7.1.2 a trailer that frames", CHUNKED + b"2\r\nhi\r\n0\r\nContent-Length: 2\r\n\r\n", 200, b"hi"),
    ("7.1.2 a trailer without a colon", CHUNKED + b"2\r\nhi\r\n0\r\nJunk\r\n\r\n", 200, b"hi"),
]  # fmt: skip


def ids(rows: list[tuple[str, bytes, int, bytes]]) -> list[str]:
    return [row[0] for row in rows]


def ways(data: bytes) -> list[list[int]]:
    """Whole, byte by byte, in threes, and cut where the body begins or a byte into it."""
    body = data.find(b"\r\n\r\n") + 4
    return [[], [1] * len(data), [3] * len(data), [body], [body + 1]]


def read_with_h11(data: bytes, *, close: bool) -> tuple[int, bytes] | None:
    """Status and body, or None where h11 refuses or wants more."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if close:
        connection.receive_data(b"")
    status, body = 0, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.ProtocolError:
        return None


#: What h11 does not take, though RFC 9112 or the field does.
_NOT_H11 = ("2.3 a higher", "4 no reason and no blank", "9110 15 a status beyond 599")


@pytest.mark.parametrize(("section", "data", "status", "body"), KEPT, ids=ids(KEPT))
def test_is_complete_and_the_connection_kept(section: str, data: bytes, status: int, body: bytes) -> None:
    for sizes in ways(data):
        heard = hear(data, sizes, close=False)
        assert (heard.status, heard.body, heard.ends, heard.kept) == (status, body, ["complete"], True)
    heard = hear(data + length(b"4", b"evil"), [], close=False)
    assert (heard.status, heard.body, heard.ends, heard.kept) == (status, body, ["complete"], False)
    if not section.startswith(_NOT_H11):
        assert read_with_h11(data, close=False) == (status, body)


@pytest.mark.parametrize(("section", "data", "status", "body"), DROPPED, ids=ids(DROPPED))
def test_is_complete_and_the_connection_dropped(section: str, data: bytes, status: int, body: bytes) -> None:
    for sizes in ways(data):
        heard = hear(data, sizes, close=False)
        assert (heard.status, heard.body, heard.ends) == (status, body, ["complete"])
    assert not hear(data, [], close=False).kept
    assert read_with_h11(data, close=False) == (status, body)


@pytest.mark.parametrize(("section", "data", "status", "body"), ENDED, ids=ids(ENDED))
def test_is_complete_when_the_connection_ends(section: str, data: bytes, status: int, body: bytes) -> None:
    for sizes in ways(data):
        assert hear(data, sizes, close=False).ends == []
        heard = hear(data, sizes, close=True)
        assert (heard.status, heard.body, heard.ends, heard.kept) == (status, body, ["complete"], False)
    assert read_with_h11(data, close=True) == (status, body)


@pytest.mark.parametrize(("section", "data", "status", "body", "end"), CUT, ids=[row[0] for row in CUT])
def test_is_cut_off(section: str, data: bytes, status: int, body: bytes, end: str) -> None:
    for sizes in ways(data):
        assert hear(data, sizes, close=False).ends == []
        heard = hear(data, sizes, close=True)
        assert (heard.status, heard.body, heard.ends, heard.kept) == (status, body, [end], False)
    assert read_with_h11(data, close=True) is None


@pytest.mark.parametrize(("section", "data", "status", "body"), GARBAGE, ids=ids(GARBAGE))
def test_is_garbage_and_the_connection_dropped(section: str, data: bytes, status: int, body: bytes) -> None:
    for sizes in ways(data):
        heard = hear(data, sizes, close=False)
        assert (heard.status, heard.body, heard.ends, heard.kept) == (status, body, ["GARBAGE"], False)
