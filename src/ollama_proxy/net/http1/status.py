"""Status lines and the parts of a head that repeat, made once."""

from __future__ import annotations

import http
import time
from email.utils import formatdate

_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_LINES: dict[int, bytes] = {}


def status_line(status: int) -> bytes:
    """`HTTP/1.1 200 OK` with its line end."""
    line = _LINES.get(status)
    if line is None:
        line = _LINES[status] = b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b"Unknown"))
    return line


class _Clock:
    second = -1
    line = b""


def date_line() -> bytes:
    """The `Date` header line, rebuilt once a second."""
    now = int(time.time())
    if now != _Clock.second:
        _Clock.second = now
        _Clock.line = b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
    return _Clock.line
