"""RFC 9112 for requests, case by case: what is read, what is refused and how, whole, byte by byte and with a tail.

Each row names its section of RFC 9112 (or of RFC 9110, as `9110 x`). Where a recipient has a choice, the stricter one
is taken unless real clients need the other; h11, an independent reader, must agree on what is accepted.
"""

from __future__ import annotations

import pytest

from tests.support.wire import Read, read_with_h11, serve_bytes

TAIL = b"GET /tail HTTP/1.1\r\nHost: x\r\n\r\n"
TAIL_READ: Read = (b"GET", b"/tail", b"")

HOST = b"Host: x\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def get(target: bytes = b"/", version: bytes = b"1.1", fields: bytes = HOST) -> bytes:
    return b"GET %b HTTP/%b\r\n%b\r\n" % (target, version, fields)


def length(value: bytes, body: bytes = b"") -> bytes:
    return POST + b"Content-Length: %b\r\n\r\n%b" % (value, body)


def coding(value: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    return POST + b"Transfer-Encoding: %b\r\n\r\n%b" % (value, body)


def read(target: bytes = b"/", method: bytes = b"GET", body: bytes = b"") -> Read:
    return method, target, body


def posted(body: bytes = b"") -> Read:
    return b"POST", b"/", body


#: Section, bytes, and what a handler gets. The connection lives on.
SERVED: list[tuple[str, bytes, Read]] = [
    # 2.2 and 2.3: the message, its version
    ("2.2 an empty line before a request is ignored", b"\r\n" + get(), read()),
    ("2.2 several empty lines", b"\r\n\r\n\r\n" + get(), read()),
    ("2.3 a higher minor version is read as 1.1", get(version=b"1.2"), read()),
    ("2.3 HTTP/1.9", get(version=b"1.9"), read()),
    ("9.3 HTTP/1.0 with keep-alive", get(version=b"1.0", fields=b"Connection: keep-alive\r\n"), read()),
    ("9.3 Keep-Alive in any case", get(version=b"1.0", fields=b"Connection: Keep-Alive\r\n"), read()),
    ("9.3 keep-alive among others", get(version=b"1.0", fields=b"Connection: te, keep-alive\r\n"), read()),
    ("9.3 keep-alive in line two", get(version=b"1.0", fields=b"Connection: a\r\nConnection:keep-alive\r\n"), read()),
    ("9.6 an unknown connection option is nothing", get(fields=HOST + b"Connection: x-y\r\n"), read()),
    ("9.6 close as part of another word is not close", get(fields=HOST + b"Connection: closed\r\n"), read()),
    # 3: the request line
    ("3.2.1 origin-form", get(b"/a/b"), read(b"/a/b")),
    ("3.2.1 with a query", get(b"/a?b=c&d"), read(b"/a?b=c&d")),
    ("3.2.1 an empty query", get(b"/a?"), read(b"/a?")),
    ("3.2.1 percent-encoded", get(b"/%41%00?%20"), read(b"/%41%00?%20")),
    ("3.2.1 two slashes", get(b"//a//b"), read(b"//a//b")),
    ("3.2.1 what browsers leave raw in a query", get(b"/?a=|{}[]^`\\"), read(b"/?a=|{}[]^`\\")),
    ("3.2.1 dots are the handler's affair", get(b"/a/../b"), read(b"/a/../b")),
    ("3.2.2 absolute-form", get(b"http://x/y"), read(b"/y")),
    ("3.2.2 of https", get(b"https://x:8443/y?z=1"), read(b"/y?z=1")),
    ("3.2.2 without a path", get(b"http://x"), read(b"/")),
    ("3.2.2 without a path but a query", get(b"http://x?y"), read(b"/?y")),
    ("3.2.2 an IPv6 host", get(b"http://[::1]:80/y"), read(b"/y")),
    ("3.2.2 scheme in any case", get(b"HTTP://x/y"), read(b"/y")),
    ("3.2.2 another host than Host's wins", get(b"http://other/y"), read(b"/y")),
    ("3.2.4 asterisk-form", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", read(b"*", b"OPTIONS")),
    ("3.2.4 from an absolute form", b"OPTIONS http://x HTTP/1.1\r\nHost: x\r\n\r\n", read(b"*", b"OPTIONS")),
    ("9110 9.3.2 HEAD", b"HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n", read(b"/h", b"HEAD")),
    ("9110 9.3.4 PUT without a body", b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n", read(b"/", b"PUT")),
    ("9110 9.3.8 TRACE reaches the handler", b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", read(b"/", b"TRACE")),
    ("RFC 5789 PATCH", b"PATCH / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na", read(b"/", b"PATCH", b"a")),
    # 3.2: Host
    ("3.2 Host with a port", get(fields=b"Host: x:8080\r\n"), read()),
    ("3.2 Host with an empty port", get(fields=b"Host: x:\r\n"), read()),
    ("3.2 Host as an IPv4 address", get(fields=b"Host: 127.0.0.1:1\r\n"), read()),
    ("3.2 Host as an IPv6 address", get(fields=b"Host: [::1]\r\n"), read()),
    ("3.2 Host as an IPv6 address and port", get(fields=b"Host: [fe80::1]:80\r\n"), read()),
    ("3.2 Host percent-encoded", get(fields=b"Host: a%20b\r\n"), read()),
    ("3.2 Host with underscore and sub-delims", get(fields=b"Host: a_b!$&'()*+,;=\r\n"), read()),
    ("3.2 Host in any case, anywhere", get(fields=b"A: b\r\nhOsT: X\r\n"), read()),
    # 5: fields
    ("5 no blank behind the colon", get(fields=b"Host:x\r\n"), read()),
    ("5 blanks and tabs around a value", get(fields=b"Host: \t x \t\r\n"), read()),
    ("5 an empty value", get(fields=HOST + b"X:\r\n"), read()),
    ("5 a value of blanks", get(fields=HOST + b"X:  \t \r\n"), read()),
    ("5 a value with a tab inside", get(fields=HOST + b"X: a\tb\r\n"), read()),
    ("5 a value with a colon", get(fields=HOST + b"X: a:b: c\r\n"), read()),
    ("5 every character of a token", get(fields=HOST + b"!#$%&'*+-.^_`|~09azAZ: v\r\n"), read()),
    ("5 the same name twice", get(fields=HOST + b"X: a\r\nX: b\r\n"), read()),
    ("9110 5.5 obs-text in a value", get(fields=HOST + b"X: \xe4\xff\x80\r\n"), read()),
    ("9110 5.5 quotes and braces", get(fields=HOST + b'X: "a;{b}\\"\r\n'), read()),
    # 6: the body
    ("6.3 no length is no body", POST + b"\r\n", posted()),
    ("6.2 a length", length(b"5", b"hello"), posted(b"hello")),
    ("6.2 a length of nought", length(b"0"), posted()),
    ("6.2 leading zeros", length(b"005", b"hello"), posted(b"hello")),
    ("6.2 zeros beyond counting", length(b"0" * 40 + b"5", b"hello"), posted(b"hello")),
    ("6.2 zeros and nothing else", length(b"0" * 40), posted()),
    ("6.2 a body that looks like a request", length(b"%d" % len(TAIL), TAIL), posted(TAIL)),
    ("6.2 a body of line ends", length(b"4", b"\r\n\r\n"), posted(b"\r\n\r\n")),
    ("6.2 GET with a body", get(fields=HOST + b"Content-Length: 2\r\n") + b"hi", read(body=b"hi")),
    ("6.1 chunked", CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", posted(b"abcde")),
    ("6.1 chunked in any case", coding(b"ChUnKeD", b"1\r\na\r\n0\r\n\r\n"), posted(b"a")),
    ("6.1 blanks around chunked", coding(b" \tchunked\t ", b"1\r\na\r\n0\r\n\r\n"), posted(b"a")),
    # 7.1: chunks
    ("7.1 nothing but the last chunk", CHUNKED + b"0\r\n\r\n", posted()),
    ("7.1 a last chunk of many zeros", CHUNKED + b"0000\r\n\r\n", posted()),
    ("7.1 leading zeros", CHUNKED + b"0001\r\na\r\n0\r\n\r\n", posted(b"a")),
    ("7.1 sixteen digits", CHUNKED + b"0000000000000001\r\na\r\n0\r\n\r\n", posted(b"a")),
    ("7.1 both cases", CHUNKED + b"b\r\n0123456789a\r\nA\r\n0123456789\r\n0\r\n\r\n", posted(b"0123456789a0123456789")),
    ("7.1 chunks of line ends", CHUNKED + b"2\r\n\r\n\r\n4\r\n0\r\n\r\r\n0\r\n\r\n", posted(b"\r\n0\r\n\r")),
    ("7.1 a chunk like chunks", CHUNKED + b"b;x\r\n1\r\nX\r\n12345\r\n0\r\n\r\n", posted(b"1\r\nX\r\n12345")),
    ("7.1 two digits", CHUNKED + b"12;x\r\n%b\r\n1F\r\n%b\r\n0\r\n\r\n" % (b"a" * 18, b"a" * 31), posted(b"a" * 49)),
    ("7.1.1 an extension", CHUNKED + b"1;a\r\nx\r\n0\r\n\r\n", posted(b"x")),
    ("7.1.1 with a value", CHUNKED + b"1;a=b\r\nx\r\n0;c=d\r\n\r\n", posted(b"x")),
    ("7.1.1 with a quoted value", CHUNKED + b'1;a="b;c\\"\\\\ "\r\nx\r\n0\r\n\r\n', posted(b"x")),
    ("7.1.1 several, with blanks", CHUNKED + b"1 ; a = b ;c\r\nx\r\n0\r\n\r\n", posted(b"x")),
    ("7.1.2 a trailer is dropped", CHUNKED + b"1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n", posted(b"x")),
    ("7.1.2 a Host in trailers is nothing", CHUNKED + b"0\r\nHost: y\r\nAuthorization: z\r\n\r\n", posted()),
    ("7.1.2 an empty trailer value", CHUNKED + b"0\r\nX:\r\n\r\n", posted()),
    # 9110 7.8: upgrades that nobody grants
    ("9110 7.8 an upgrade is ignored", get(fields=HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n"), read()),
    ("9110 7.8 with a body", POST + b"Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n\r\nx", posted(b"x")),
    ("9110 7.8 Upgrade without Connection", get(fields=HOST + b"Upgrade: h2c\r\n"), read()),
    ("9110 10.1.1 an expectation without a body", get(fields=HOST + b"Expect: 100-continue\r\n"), read()),
    ("9110 10.1.1 with the body at once", POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx", posted(b"x")),
    ("9110 10.1.1 an empty expectation is none", get(fields=HOST + b"Expect:\r\n"), read()),
    ("9110 10.1.1 in any case", get(fields=HOST + b"Expect: 100-Continue\r\n"), read()),
]  # fmt: skip

#: Served, and the connection closed behind the answer.
LAST: list[tuple[str, bytes, Read]] = [
    ("9.6 close", get(fields=HOST + b"Connection: close\r\n"), read()),
    ("9.6 Close in any case, among others", get(fields=HOST + b"Connection: keep-alive, CLOSE\r\n"), read()),
    ("9.6 close in a second line", get(fields=HOST + b"Connection: keep-alive\r\nConnection: close\r\n"), read()),
    ("9.6 close in the first of two lines", get(fields=HOST + b"Connection: close\r\nConnection: x\r\n"), read()),
    ("9.6 close and upgrade", get(fields=HOST + b"Connection: upgrade, close\r\nUpgrade: h2c\r\n"), read()),
    ("9.3 HTTP/1.0", get(version=b"1.0", fields=b""), read()),
    ("9.3 HTTP/1.0 with a Host", get(version=b"1.0"), read()),
    ("9.3 HTTP/1.0 with a body", b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", posted(b"hi")),
    ("9.6 HTTP/1.0 that asks for both", get(version=b"1.0", fields=b"Connection: keep-alive, close\r\n"), read()),
    ("9110 10.1.1 HTTP/1.0 knows no expectations", get(version=b"1.0", fields=b"Expect: the-best\r\n"), read()),
    ("9110 7.8 HTTP/1.0 cannot upgrade", get(version=b"1.0", fields=b"Connection: upgrade\r\nUpgrade: a\r\n"), read()),
]

#: Section, bytes, and the status of the refusal. The connection is closed and nothing behind it is read.
REFUSED: list[tuple[str, bytes, int]] = [
    # 2.2: lines
    ("2.2 bare LF behind the request line", b"GET / HTTP/1.1\nHost: x\r\n\r\n", 400),
    ("2.2 bare LF behind a field", b"GET / HTTP/1.1\r\nHost: x\n\r\n", 400),
    ("2.2 bare LF for all", b"GET / HTTP/1.1\nHost: x\n\n", 400),
    ("2.2 bare LF as the empty line", b"GET / HTTP/1.1\r\nHost: x\r\n\n", 400),
    ("2.2 bare LF before a request", b"\n" + get(), 400),
    ("2.2 bare CR in a value", get(fields=HOST + b"X: a\rb\r\n"), 400),
    ("2.2 bare CR as a line end", b"GET / HTTP/1.1\r\nHost: x\rX: y\r\n\r\n", 400),
    ("2.2 CR CR LF", b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", 400),
    ("2.2 a blank before the first field", b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    ("2.2 a blank line of blanks", b"GET / HTTP/1.1\r\nHost: x\r\n \r\n\r\n", 400),
    # 2.3: version
    ("2.3 lower case", b"GET / http/1.1\r\nHost: x\r\n\r\n", 400),
    ("2.3 one digit", get(version=b"1"), 400),
    ("2.3 three digits", get(version=b"1.11"), 400),
    ("2.3 no digits", get(version=b"x.y"), 400),
    ("2.3 another protocol", b"GET / HTCPCP/1.1\r\nHost: x\r\n\r\n", 400),
    ("2.3 HTTP/2.0", get(version=b"2.0"), 505),
    ("2.3 HTTP/0.9 by name", get(version=b"0.9"), 505),
    ("2.3 HTTP/0.9 by form", b"GET /\r\n\r\n", 400),
    ("2.3 HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\n", 505),
    # 3: the request line
    ("3 two blanks before the target", b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("3 two blanks before the version", b"GET /  HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("3 a tab for a blank", b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("3 a blank at its end", b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
    ("3 a blank at its start", b" GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("3 a blank in the target", get(b"/a b"), 400),
    ("3 no target", b"GET HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("3 nothing but a method", b"GET\r\nHost: x\r\n\r\n", 400),
    ("3 a control character in the target", get(b"/a\x01"), 400),
    ("3 DEL in the target", get(b"/a\x7f"), 400),
    ("3 raw UTF-8 in the target", get(b"/\xc3\xa4"), 400),
    ("3.1 methods are case-sensitive", b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ("3.1 an unknown method", b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ("3.1 a method that is no token", b"G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("3.1 TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ("3.1 another protocol altogether", b"SSH-2.0-OpenSSH_9.6\r\n", 400),
    ("3.2 a fragment", get(b"/a#b"), 400),
    ("3.2.2 absolute-form of ftp", get(b"ftp://x/"), 400),
    ("3.2.2 with a user", get(b"http://user@x/"), 400),
    ("3.2.2 without a host", get(b"http:///a"), 400),
    ("3.2.2 without slashes", get(b"http:x"), 400),
    ("3.2.2 absolute-form does not replace Host", get(b"http://x/", fields=b""), 400),
    ("3.2.3 authority-form", get(b"x:80"), 400),
    ("3.2.3 CONNECT", b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    ("3.2.4 asterisk-form of GET", get(b"*"), 400),
    ("3.2.1 a relative path", get(b"a/b"), 400),
    # 3.2: Host
    ("3.2 no Host", get(fields=b""), 400),
    ("3.2 two Hosts alike", get(fields=HOST + HOST), 400),
    ("3.2 two Hosts that differ", get(fields=HOST + b"Host: y\r\n"), 400),
    ("3.2 two Hosts in HTTP/1.0", get(version=b"1.0", fields=HOST + b"Host: y\r\n"), 400),
    ("3.2 an empty Host", get(fields=b"Host:\r\n"), 400),
    ("3.2 a port and no host", get(fields=b"Host: :80\r\n"), 400),
    ("3.2 a port that is no number", get(fields=b"Host: x:http\r\n"), 400),
    ("3.2 a user in Host", get(fields=b"Host: user@x\r\n"), 400),
    ("3.2 a path in Host", get(fields=b"Host: x/y\r\n"), 400),
    ("3.2 a query in Host", get(fields=b"Host: x?y\r\n"), 400),
    ("3.2 a blank in Host", get(fields=b"Host: x y\r\n"), 400),
    ("3.2 a comma-separated Host is a name, two hosts are not", get(fields=b"Host: x, y\r\n"), 400),
    ("3.2 junk before an IPv6 address", get(fields=b"Host: x[::1]\r\n"), 400),
    ("3.2 junk behind an IPv6 address", get(fields=b"Host: [::1]x\r\n"), 400),
    ("3.2 an IPv6 address without brackets", get(fields=b"Host: ::1\r\n"), 400),
    ("3.2 a bracket left open", get(fields=b"Host: [::1\r\n"), 400),
    ("3.2 a scheme in Host", get(fields=b"Host: http://x\r\n"), 400),
    ("3.2 obs-text in Host", get(fields=b"Host: \xe4\r\n"), 400),
    ("3.2 a broken percent-encoding in Host", get(fields=b"Host: a%2\r\n"), 400),
    # 5: fields
    ("5.1 a blank before the colon", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    ("5.1 a tab before the colon", b"GET / HTTP/1.1\r\nHost\t: x\r\n\r\n", 400),
    ("5.1 a blank before the colon of a length", POST + b"Content-Length : 5\r\n\r\nhello", 400),
    ("5.2 obs-fold with a blank", get(fields=HOST + b"X: a\r\n b\r\n"), 400),
    ("5.2 obs-fold with a tab", get(fields=HOST + b"X: a\r\n\tb\r\n"), 400),
    ("5.2 obs-fold of a coding", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    ("5 a line without a colon", get(fields=HOST + b"Junk\r\n"), 400),
    ("5 an empty name", get(fields=HOST + b": v\r\n"), 400),
    ("5 a name with a blank", get(fields=HOST + b"A B: v\r\n"), 400),
    ("5 a name with a slash", get(fields=HOST + b"A/B: v\r\n"), 400),
    ("5 a name with obs-text", get(fields=HOST + b"\xe4: v\r\n"), 400),
    ("9110 5.5 NUL in a value", get(fields=HOST + b"X: a\x00b\r\n"), 400),
    ("9110 5.5 a control character in a value", get(fields=HOST + b"X: a\x1bb\r\n"), 400),
    ("9110 5.5 DEL in a value", get(fields=HOST + b"X: a\x7fb\r\n"), 400),
    ("9110 5.5 a vertical tab around a coding", coding(b"\x0bchunked"), 400),
    # 9110 10.1.1: expectations
    ("9110 10.1.1 an unknown expectation", get(fields=HOST + b"Expect: the-best\r\n"), 417),
    ("9110 10.1.1 with a body", POST + b"Expect: the-best\r\nContent-Length: 1\r\n\r\nx", 417),
    ("9110 10.1.1 an unknown one among others", get(fields=HOST + b"Expect: 100-continue, the-best\r\n"), 417),
    ("9110 10.1.1 in a second line", get(fields=HOST + b"Expect: 100-continue\r\nExpect: x\r\n"), 417),
    ("9110 10.1.1 almost the known one", get(fields=HOST + b"Expect: 100-continue;q=1\r\n"), 417),
    # 6.1: transfer codings
    ("6.1 a coding and a length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
    ("6.1 a length and a coding", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("6.1 a coding in HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("6.1 a coding that is not served", coding(b"gzip, chunked"), 501),
    ("6.1 an unknown coding before chunked", coding(b"x, chunked"), 501),
    ("6.3 chunked is not the last", coding(b"chunked, gzip"), 400),
    ("6.3 no chunked at all", coding(b"gzip"), 400),
    ("6.3 identity", coding(b"identity"), 400),
    ("6.3 almost chunked", coding(b"xchunked"), 400),
    ("6.3 chunked with a parameter", coding(b"chunked;q=1"), 400),
    ("6.3 chunked in quotes", coding(b'"chunked"'), 400),
    ("6.1 chunked twice in a list", coding(b"chunked, chunked"), 400),
    ("6.1 chunked twice in lines", POST + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n", 400),
    ("6.1 chunked, then other", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400),
    ("6.1 a codings list with a hole", coding(b"chunked,"), 400),
    ("6.1 an empty coding", coding(b""), 400),
    # 6.2: lengths
    ("6.3 two lengths that differ", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
    ("6.3 two lengths alike may be refused", POST + b"Content-Length: 5\r\n" * 2 + b"\r\nhello", 400),
    ("6.3 a list of lengths alike may be refused", length(b"5, 5", b"hello"), 400),
    ("6.3 a list of lengths that differ", length(b"5, 6", b"hello!"), 400),
    ("6.2 a sign", length(b"+5", b"hello"), 400),
    ("6.2 a negative length", length(b"-5", b"hello"), 400),
    ("6.2 a hexadecimal length", length(b"0x5", b"hello"), 400),
    ("6.2 hexadecimal digits", length(b"a", b"hellohello"), 400),
    ("6.2 a fraction", length(b"5.0", b"hello"), 400),
    ("6.2 an underscore", length(b"1_0", b"hellohello"), 400),
    ("6.2 a blank inside", length(b"1 0", b"hellohello"), 400),
    ("6.2 an empty length", length(b""), 400),
    ("6.2 digits of another script", length(b"\xd9\xa5", b"hello"), 400),
    ("6.2 a length beyond every integer", length(b"9" * 30), 413),
    ("6.2 a length beyond the limit", length(b"99999999999"), 413),
    # 7.1: chunks
    ("7.1 no size", CHUNKED + b"\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1 a size that is no number", CHUNKED + b"xyz\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1 a prefix", CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1 a sign", CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1 a negative size", CHUNKED + b"-1\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1 an underscore", CHUNKED + b"0_3\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1 seventeen digits", CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1 a blank before the size", CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1 a blank behind the size", CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", 400),
    ("7.1 bare LF behind the size", CHUNKED + b"3\nabc\r\n0\r\n\r\n", 400),
    ("7.1 bare CR behind the size", CHUNKED + b"3\rabc\r\n0\r\n\r\n", 400),
    ("7.1 bare LF behind the data", CHUNKED + b"3\r\nabc\n0\r\n\r\n", 400),
    ("7.1 no line end behind the data", CHUNKED + b"3\r\nabc0\r\n\r\n", 400),
    ("7.1 more data than the size", CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 400),
    ("7.1 less data than the size", CHUNKED + b"4\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1 bare LF at the very end", CHUNKED + b"3\r\nabc\r\n0\r\n\n", 400),
    ("7.1.1 an extension without a name", CHUNKED + b"3;\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1.1 an extension with a bare LF", CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1.1 an extension with a NUL", CHUNKED + b"3;a=\x00\r\nabc\r\n0\r\n\r\n", 400),
    ("7.1.1 a quote left open", CHUNKED + b'3;a="b\r\nabc\r\n0\r\n\r\n', 400),
    ("7.1.2 a trailer that frames: length", CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n", 400),
    ("7.1.2 a trailer that frames: coding", CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("7.1.2 a folded trailer", CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n", 400),
    ("7.1.2 a trailer without a colon", CHUNKED + b"0\r\nJunk\r\n\r\n", 400),
    ("7.1.2 a trailer with a NUL", CHUNKED + b"0\r\nX: \x00\r\n\r\n", 400),
    ("7.1.2 bare LF behind a trailer", CHUNKED + b"0\r\nX: y\n\r\n", 400),
]  # fmt: skip

#: What h11 sees otherwise: the absolute form as it came, no HTTP/1.2, no empty line before a request, no number of more
#: than twenty digits, no blank before an extension.
_NOT_H11 = (
    "2.2",
    "2.3",
    "3.2.2",
    "3.2.4 from an absolute form",
    "6.2 zeros",
    "7.1.1 several, with blanks",
)


def by_section(rows: list[tuple[str, bytes, object]]) -> list[str]:
    return [section for section, _, _ in rows]


def ways(data: bytes) -> list[list[int]]:
    """Whole, byte by byte, in threes, and cut where the body begins or a byte into it."""
    body = data.find(b"\r\n\r\n") + 4
    return [[], [1] * len(data), [3] * len(data), [body], [body + 1]]


@pytest.mark.parametrize(("section", "data", "meaning"), SERVED, ids=by_section(SERVED))
def test_is_served_and_the_connection_lives_on(section: str, data: bytes, meaning: Read) -> None:
    for sizes in ways(data):
        assert serve_bytes(data, sizes)[::2] == ([meaning], False)
        assert serve_bytes(data + TAIL, sizes)[0] == [meaning, TAIL_READ]
    if not section.startswith(_NOT_H11):
        assert read_with_h11(data) == [meaning]


@pytest.mark.parametrize(("section", "data", "meaning"), LAST, ids=by_section(LAST))
def test_is_served_and_the_connection_closed(section: str, data: bytes, meaning: Read) -> None:
    for sizes in ways(data):
        assert serve_bytes(data, sizes) == ([meaning], [200], True)
        assert serve_bytes(data + TAIL, sizes) == ([meaning], [200], True)
    assert read_with_h11(data) == [meaning]


@pytest.mark.parametrize(("section", "data", "status"), REFUSED, ids=by_section(REFUSED))
def test_is_refused_and_nothing_behind_it_is_read(section: str, data: bytes, status: int) -> None:
    for sizes in ways(data):
        assert serve_bytes(data, sizes) == ([], [status], True)
        assert serve_bytes(data + TAIL, sizes) == ([], [status], True)
        assert serve_bytes(TAIL + data, sizes) == ([TAIL_READ], [200, status], True)


def test_the_table_is_as_long_as_it_should_be() -> None:
    sections = by_section(SERVED + LAST + REFUSED)  # type: ignore[arg-type]
    assert len(set(sections)) == len(sections) >= 150
