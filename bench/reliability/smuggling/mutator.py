"""Streams of HTTP/1.1 requests that are right in most places. Pure: stream n of a seed is always the same."""

from __future__ import annotations

import random
import re
import zlib

_TAG = re.compile(rb"/s(\d+)-([0-9a-f]{8})/\w+")

#: Lines that put length, coding, host or hop in doubt; each has been taken differently by different servers.
_LINES = [
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: \x0cchunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunked;a=b",
    b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding\r\n: chunked",
    b"transfer_encoding: chunked",
    b"X: a\rTransfer-Encoding: chunked",
    b"X: a\nTransfer-Encoding: chunked",
    b" Transfer-Encoding: chunked",
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: 03",
    b"Content-Length: +3",
    b"Content-Length: -1",
    b"Content-Length: 0x3",
    b"Content-Length: 3, 3",
    b"Content-Length: 3, 4",
    b"Content-Length: 3 4",
    b"Content-Length: 3\r\nContent-Length: 4",
    b"Content-Length : 3",
    b"Content-Length:",
    b"Content-Length: 1_0",
    b"Content-Length: 18446744073709551619",
    b"Content-Length: \xb3",
    b"Content_Length: 3",
    b"\x00Content-Length: 3",
    b"Content-Length\x00: 3",
    b"Content-Length: 3\x00",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: content-length",
    b"Connection: transfer-encoding",
    b"Connection: close, host",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    b"Expect: 100-continue",
    b"Expect: x",
    b"Host: other",
    b"Host : x",
    b"Host: x/../y",
    b"TE: trailers",
    b"Trailer: Content-Length",
    b"X-Fold: a\r\n b",
    b"X-Nul: a\x00b",
    b"X-Long: " + b"a" * 5000,
    b"NoColon",
    b": no name",
    b"",
]
_SIZES = [
    b"%x",
    b"0%x",
    b"00000000000000000%x",
    b"0x%x",
    b"+%x",
    b"-%x",
    b"%x ",
    b" %x",
    b"%x;a=b",
    b"%x;a\n=b",
    b'%x;a="\r\n"',
    b"%x\x00",
    b"1000000000000000%x",
    b"%x_",
    b"%xg",
]
_ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"", b"\r\r\n", b"\r\nX"]
_PIECES = [
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\x00",
    b":",
    b",",
    b";",
    b"\x0b",
    b"\x7f",
    b"\xff",
    b"0",
    b"#",
    b"%0d%0a",
]
_METHODS = [b"POST", b"POST", b"PUT", b"GET", b"DELETE", b"PATCH", b"OPTIONS", b"HEAD"]


def find_tag(text: bytes) -> tuple[int | None, bytes]:
    """The stream that a target, or a line with one in it, belongs to, and the target; (None, b"") where none is named.

    The number has a sum beside it, so that a fault in its digits does not make it another stream's.
    """
    found = _TAG.search(text)
    if found is None or found[2] != _sum(int(found[1])):
        return None, b""
    return int(found[1]), found[0]


def name_target(number: int, name: bytes) -> bytes:
    """A target of a stream."""
    return b"/s%d-%b/%b" % (number, _sum(number), name)


def _sum(number: int) -> bytes:
    return b"%08x" % zlib.crc32(b"%d" % number)


def make_stream(seed: int, number: int) -> bytes:
    """Two to four requests with nought to three faults among them, and a last request that ends the connection."""
    dice = random.Random(f"{seed}\0{number}")
    requests = [_make_request(dice, number, place) for place in range(dice.randint(1, 3))]
    data = b"".join(requests)
    for _ in range(dice.choice((0, 0, 0, 0, 1, 2))):
        data = _break_a_byte(dice, data)
    return data + b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % name_target(number, b"last")


def _make_request(dice: random.Random, number: int, place: int) -> bytes:
    body = dice.choice((b"", b"abc", b"body%d" % place, _make_inner(number)))
    lines = [b"Host: localhost"]
    kind = dice.choice(("length", "chunked", "none"))
    if kind == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif kind == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        body = _chunk(dice, body)
    elif body and dice.random() < 0.9:
        body = b""
    for _ in range(dice.choice((0, 0, 0, 0, 1, 2))):
        lines.insert(dice.randint(0, len(lines)), dice.choice(_LINES))
    method = dice.choice(_METHODS) if body or kind != "none" else b"GET"
    version = dice.choice((b"HTTP/1.1",) * 40 + (b"HTTP/1.0", b"HTTP/1.2", b"http/1.1"))
    end = dice.choice((b"\r\n",) * 40 + (b"\n",))
    first = b"%b %b %b" % (method, name_target(number, b"r%d" % place), version)
    return end.join([first, *lines, b"", b""]) + body


def _make_inner(number: int) -> bytes:
    """A body that is a request to whoever takes its border wrongly."""
    return b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % name_target(number, b"inner")


def _chunk(dice: random.Random, body: bytes) -> bytes:
    pieces = [body] if dice.random() < 0.7 else [body[:2], body[2:]]
    out = b""
    for piece in pieces:
        if piece:
            faulty = dice.random() < 0.1
            size = (dice.choice(_SIZES) if faulty else b"%x") % len(piece)
            out += size + (dice.choice(_ENDS) if faulty else b"\r\n") + piece + b"\r\n"
    trailer = dice.choice((b"",) * 16 + (b"X: y\r\n", b"Content-Length: 3\r\n", b"X: y\n"))
    return out + dice.choice((b"0",) * 24 + (b"00", b"0;a", b"-0")) + b"\r\n" + trailer + b"\r\n"


def _break_a_byte(dice: random.Random, data: bytes) -> bytes:
    """Change something at a place that means something, or anywhere."""
    marks = [found.start() for found in re.finditer(rb"[\r\n: ,;]", data)]
    at = dice.choice(marks) if marks and dice.random() < 0.8 else dice.randrange(len(data))
    match dice.randrange(4):
        case 0:
            return data[:at] + data[at + 1 :]
        case 1:
            return data[:at] + data[at : at + 1] + data[at:]
        case 2:
            return data[:at] + dice.choice(_PIECES) + data[at + 1 :]
        case _:
            return data[:at] + dice.choice(_PIECES) + data[at:]
