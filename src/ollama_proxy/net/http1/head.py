"""The head of a request by RFC 9112: its request line, and what its fields say about body and connection.

Whoever is in doubt about a message must refuse it: two readers that differ in where it ends can be played off
against each other.
"""

from __future__ import annotations

import re
from typing import Any

from .fields import BadField, Header, Headers, count_field, is_token, read_field, read_tokens
from .limits import HttpLimits

#: Method, target (absolute-form made a path), path, query, HTTP/1.0.
RequestLine = tuple[bytes, bytes, bytes, bytes, bool]

_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"))
_LINE = re.compile(rb"([^ ]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
_BEGIN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}(?: [!-~]*(?: [HTP/0-9.]*\r?)?)?")
_BEGIN_BYTES = 20
_VERSION_BYTES = len(b" HTTP/1.1")
#: RFC 9110, 4.2: an http(s) URI with a host and no user.
_HOST = rb"(?:(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"
_ABSOLUTE = re.compile(rb"https?://" + _HOST + rb"(?=[/?]|$)", re.IGNORECASE)
_AUTHORITY = re.compile(_HOST)
_MOST_SEEN = 512
_MOST_DIGITS = 18
_LONGEST_SEEN_BYTES = 160

#: The key of a head's notes under which the host of a target in absolute form stands.
AUTHORITY = "authority"

#: Request lines without a query, by their bytes.
seen_lines: dict[bytes, RequestLine] = {}
#: Values of Host that passed.
good_hosts: set[bytes] = set()


class RequestHead:
    """What a head says. Requests of a connection that have the same head share one, so it is never changed.

    `notes` is for whoever serves the requests: what was found out about this head the first time, by who keeps it.
    """

    __slots__ = (
        "fields",
        "http10",
        "index",
        "is_head",
        "keep_alive",
        "method",
        "notes",
        "path",
        "query",
        "target",
        "upgrade",
    )

    def __init__(self, line: RequestLine, fields: Headers, index: dict[bytes, bytes]) -> None:
        self.method, self.target, self.path, self.query, self.http10 = line
        self.fields = fields
        #: The first value of each name.
        self.index = index
        self.is_head = self.method == b"HEAD"
        self.keep_alive = not self.http10
        #: What the client would rather speak on this connection, or nothing.
        self.upgrade = b""
        self.notes: dict[object, Any] = {}


#: The head of a request that could not be read so far.
NO_LINE: RequestLine = (b"GET", b"/", b"/", b"", False)


class Refusal(Exception):
    """A request that is not served: the status and a sentence that says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def read_request_line(line: bytes, limits: HttpLimits) -> RequestLine:
    """Read a request line. Raises `Refusal`."""
    if not _BEGIN.fullmatch(line[:_BEGIN_BYTES]):
        raise Refusal(400, "malformed HTTP request: this is no request line")
    _check_line_length(line, limits)
    match = _LINE.fullmatch(line)
    if match is None:
        raise Refusal(400, "malformed HTTP request: a request line is a method, a target and HTTP/1.1, one blank apart")
    method, target, major, minor = match.groups()
    if major != b"1":
        raise Refusal(505, f"HTTP version {major.decode()}.{minor.decode()} is not served; use HTTP/1.1")
    _check_method(method)
    target = _read_target(method, target, limits)
    path, _, query = target.partition(b"?")
    found = (method, target, path, query, minor == b"0")
    if not query and len(line) <= _LONGEST_SEEN_BYTES:
        if len(seen_lines) >= _MOST_SEEN:
            seen_lines.clear()
        seen_lines[line] = found
    return found


def _check_line_length(line: bytes, limits: HttpLimits) -> None:
    if len(line) > limits.target_bytes + _BEGIN_BYTES + _VERSION_BYTES:
        raise Refusal(414, f"the request target is longer than {limits.target_bytes} bytes")


def _check_method(method: bytes) -> None:
    if method == b"CONNECT":
        raise Refusal(405, "CONNECT is not served")
    if method not in _METHODS:
        if is_token(method):
            raise Refusal(501, f"the method {method.decode()[:40]} is not served")
        raise Refusal(400, "malformed HTTP request: the method is no word")


def _read_target(method: bytes, target: bytes, limits: HttpLimits) -> bytes:
    """The target as a path and query (RFC 9112, 3.2)."""
    if len(target) > limits.target_bytes:
        raise Refusal(414, f"the request target is longer than {limits.target_bytes} bytes")
    if b"#" in target:
        raise Refusal(400, "a request target has no fragment")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        raise Refusal(400, "the request target must be a path or an http URI")
    rest = target[absolute.end() :]
    if not rest and method == b"OPTIONS":
        return b"*"
    return rest if rest.startswith(b"/") else b"/" + rest


def check_lines(data: bytes, at: int, line_from: int, limits: HttpLimits) -> int:
    """Check the lines of a head in the order of their bytes, as far as they have come.

    Used for a head that comes in part, and to find the first fault of one that is bad: so both are refused alike.
    `at` is where the head begins, `line_from` where checking goes on. Returns where the first unfinished line begins.
    Raises `Refusal`.
    """
    lines = data.count(b"\n", at, line_from)
    while True:
        end = data.find(b"\n", line_from)
        line = data[line_from : end if end >= 0 else len(data)]
        if line in (b"", b"\r") and line_from > at and end != line_from:
            return line_from
        text = line.removesuffix(b"\r")
        if lines:
            _check_size(line_from - at + len(text), lines, limits)
        if end < 0:
            if not lines:
                _check_begin(text, limits)
            return line_from
        if len(text) == len(line):
            raise Refusal(400, "malformed HTTP request: a line must end with CR LF")
        if lines:
            read_header(text)
        else:
            read_request_line(text, limits)
        line_from = end + 1
        lines += 1


def read_header(line: bytes) -> Header:
    """Read a field line of a request. Raises `Refusal`."""
    try:
        return read_field(line)
    except BadField as error:
        raise Refusal(400, f"malformed HTTP request: {error}") from None


def _check_begin(line: bytes, limits: HttpLimits) -> None:
    if line and not _BEGIN.fullmatch(line[:_BEGIN_BYTES]):
        raise Refusal(400, "malformed HTTP request: this is no request line")
    _check_line_length(line, limits)


def _check_size(size: int, lines: int, limits: HttpLimits) -> None:
    if size > limits.head_bytes:
        raise Refusal(431, f"the head is larger than {limits.head_bytes} bytes")
    if lines > limits.head_fields:
        raise Refusal(431, f"the head has more than {limits.head_fields} fields")


def check_once(fields: Headers) -> None:
    """What may be there only once is there only once. Raises `Refusal`."""
    for name in (b"host", b"content-length"):
        if count_field(fields, name) > 1:
            raise Refusal(400, f"more than one {name.decode()} header")


def check_host(host: bytes | None, *, http10: bool) -> None:
    """RFC 9112, 3.2: a host and port; HTTP/1.0 may leave it out. Raises `Refusal`."""
    if host is None:
        if not http10:
            raise Refusal(400, "a Host header is needed")
        return
    if not _AUTHORITY.fullmatch(host):
        raise Refusal(400, "the Host header must be a host and a port")
    if len(good_hosts) >= _MOST_SEEN:
        good_hosts.clear()
    good_hosts.add(host)


def note_authority(head: RequestHead, line: bytes) -> None:
    """Keep the host that a target in absolute form names: it counts, whatever Host says (RFC 9112, 3.2.2)."""
    absolute = _ABSOLUTE.match(line.split(b" ", 2)[1])
    if absolute is not None:
        head.notes[AUTHORITY] = absolute[0].partition(b"://")[2]


def check_expectation(fields: Headers) -> None:
    """RFC 9110, 10.1.1: nothing is expected but to be told to go on. Raises `Refusal`."""
    if read_tokens(fields, b"expect") - {b"100-continue"}:
        raise Refusal(417, "the only expectation that is met is 100-continue")


def read_length(value: bytes, limits: HttpLimits) -> int:
    """RFC 9112, 6.3: one number. Raises `Refusal`."""
    length = seen_lengths[value]
    if length > limits.body_bytes:
        raise Refusal(413, f"the body is larger than {limits.body_bytes} bytes")
    return length


class _SeenLengths(dict[bytes, int]):
    """Numbers by their digits."""

    def __missing__(self, value: bytes) -> int:
        if not value.isdigit():
            raise Refusal(400, "the Content-Length must be one number")
        digits = value.lstrip(b"0") or b"0"
        # Not converted before they are counted: a number of many digits costs the square of them.
        length = int(digits[:_MOST_DIGITS])
        if len(value) <= _MOST_DIGITS:
            if len(self) >= _MOST_SEEN:
                self.clear()
            self[value] = length
        return length


#: Lengths of bodies by their digits; all of them within no limit yet.
seen_lengths = _SeenLengths()


def check_coding(fields: Headers, *, http10: bool, has_length: bool) -> None:
    """RFC 9112, 6.1 and 6.3: chunked, once and last, without a length, not in HTTP/1.0. Raises `Refusal`."""
    if http10:
        raise Refusal(400, "HTTP/1.0 has no Transfer-Encoding")
    if has_length:
        raise Refusal(400, "a request has a Transfer-Encoding or a Content-Length, not both")
    values = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    if values == [b"chunked"]:
        return
    codings = [part.strip(b" \t") for part in b",".join(values).split(b",")]
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1 or not all(codings):
        raise Refusal(400, "the last transfer coding of a request must be 'chunked', once")
    raise Refusal(501, "only the transfer coding 'chunked' is served")
