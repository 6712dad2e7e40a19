"""Status lines and the parts of a head that repeat, made once."""

from __future__ import annotations

import http
import math
import time
from email.utils import formatdate

_REASONS = {status.value: status.phrase.encode() for status in http.HTTPStatus}
_MOST_BEGINS = 512
#: Beginnings of heads that were sent before, by status and content type.
head_begins: dict[tuple[int, bytes], bytes] = {}


def head_begin(status: int, content_type: bytes) -> bytes:
    """The status line, and the Content-Type line unless it is empty, with their line ends."""
    begin = head_begins.get((status, content_type))
    if begin is None:
        begin = b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b"Unknown"))
        if content_type:
            begin += b"Content-Type: %b\r\n" % content_type
        if len(head_begins) >= _MOST_BEGINS:  # content types come from upstreams, who may send any number of them
            head_begins.clear()
        head_begins[status, content_type] = begin
    return begin


def retry_after(wait_s: float) -> tuple[bytes, bytes]:
    """The field that tells a client to come again in `wait_s`: whole seconds, never so few that it comes too early."""
    return b"Retry-After", b"%d" % max(1, math.ceil(wait_s))


class _Clock:
    until_s = 0.0
    line = b""


def date_line() -> bytes:
    """The `Date` header line, rebuilt once a second."""
    now_s = time.time()
    # Also when the clock has been set back.
    if not _Clock.until_s - 1 <= now_s < _Clock.until_s:
        _Clock.until_s = int(now_s) + 1
        _Clock.line = b"Date: " + formatdate(int(now_s), usegmt=True).encode() + b"\r\n"
    return _Clock.line
