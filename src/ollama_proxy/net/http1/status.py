"""Status lines and the parts of a head that repeat, made once."""

from __future__ import annotations

import http
import time
from email.utils import formatdate

_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_MOST_BEGINS = 512
_begins: dict[tuple[int, bytes], bytes] = {}


def head_begin(status: int, content_type: bytes) -> bytes:
    """The status line, and the Content-Type line unless it is empty, with their line ends."""
    begin = _begins.get((status, content_type))
    if begin is None:
        begin = b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b"Unknown"))
        if content_type:
            begin += b"Content-Type: %b\r\n" % content_type
        if len(_begins) >= _MOST_BEGINS:  # content types come from upstreams, who may send any number of them
            _begins.clear()
        _begins[status, content_type] = begin
    return begin


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
