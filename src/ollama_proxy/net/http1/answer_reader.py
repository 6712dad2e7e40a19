"""Reads the answers of one upstream connection, sans-IO: head, then body with its framing taken off, then the end.

Where an answer ends is known to the byte (RFC 9112, 6.3), so that nothing behind it is ever part of the next one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .chunked import ChunkedReader, ChunkError
from .fields import LENGTH_MARKS, LONGEST_KNOWN_BYTES, BadField, Headers, count_field, read_fields, read_tokens

_STATUS = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9]{2})(?: [\t -~\x80-\xff]*)?")
_BEGIN = b"HTTP/1."
_MOST_HEAD_BYTES = 64 * 1024
_MOST_FIELDS = 256
_MOST_DIGITS = 18
_MOST_SEEN = 256
_NO_BODY = frozenset((204, 304))

#: Status and whether it is HTTP/1.0, by status line.
_seen_status: dict[bytes, tuple[int, bool]] = {}


class BadAnswer(ValueError):
    """An answer that cannot be read without doubt."""


class KnownAnswer(NamedTuple):
    """A head cut where the length of its body stands: servers repeat themselves but for that."""

    mark: bytes
    before: bytes
    after: bytes
    status: int
    #: Without the length.
    fields: Headers


class AnswerReader:
    """Reads one answer; `begin` makes it ready for the next."""

    __slots__ = (
        "_head_bytes",
        "_held",
        "_known",
        "_left",
        "_repeats",
        "by_close",
        "chunked",
        "continued",
        "done",
        "fault",
        "fields",
        "keep_alive",
        "status",
        "surplus",
    )

    def __init__(self) -> None:
        self.status = 0
        self.fields: Headers = []
        self._known: KnownAnswer | None = None
        #: Whether the head of this answer was read by comparison, and nothing has surprised us since.
        self._repeats = False
        self.begin()

    def begin(self) -> None:
        """Expect a new answer."""
        #: Whether the server has said 100: it wants the body that it was announced.
        self.continued = False
        if self._repeats:
            # The last one changed nothing but what the next one sets anew.
            self.done = False
            self._left = 0
            return
        self._held = b""
        self._head_bytes = 0
        self._left = 0
        #: Takes the coding off a chunked body.
        self.chunked: ChunkedReader | None = None
        #: Whether the body ends with the connection.
        self.by_close = False
        self.keep_alive = False
        self.done = False
        #: Whether bytes came behind the end: nobody asked for them.
        self.surplus = False
        #: What is wrong with the body, found behind the part that was sound.
        self.fault = ""

    def read_head(self, data: bytes, *, of_head: bool = False) -> bytes | None:
        """Read on in the head; what follows it, or None while it is not whole. Raises `BadAnswer`.

        `of_head` says that the request was a HEAD: its answer has the framing of a body, and none.
        """
        if self._held:
            data = self._held + data
            self._held = b""
        elif self._known is not None and not of_head:
            end = data.find(b"\r\n\r\n")
            if end > 0 and self._read_again(self._known, data[:end]):
                return data[end + 4 :]
        self._repeats = False
        at = 0
        while True:
            begin = at
            end = data.find(b"\r\n\r\n", at)
            if end < 0:
                self._hold(data[at:])
                return None
            lines = data[at:end].split(b"\r\n")
            self._head_bytes += end - at
            if self._head_bytes > _MOST_HEAD_BYTES or len(lines) > _MOST_FIELDS:
                raise BadAnswer("the head is too large")
            at = end + 4
            first = lines[0]
            status, http10 = _seen_status.get(first) or _read_status(first)
            del lines[0]
            try:
                fields = read_fields(lines)
            except BadField as error:
                raise BadAnswer(str(error)) from None
            if status >= 200:
                break
            if status == 101:
                raise BadAnswer("the server changes to a protocol that nobody asked for")
            self.continued = self.continued or status == 100
        self.status = status
        self.fields = fields
        self._frame(fields, http10=http10, bodiless=of_head or status in _NO_BODY)
        if self._left:
            self._known = _know_answer(data[begin:end], status, fields)
        return data[at:]

    def _read_again(self, known: KnownAnswer, raw: bytes) -> bool:
        """Read a head that is the last one but for its length; False when it is not."""
        before, _, rest = raw.partition(known.mark)
        if before != known.before:
            return False
        length, _, after = rest.partition(b"\r\n")
        if after != known.after or not 0 < len(length) <= _MOST_DIGITS or not length.isdigit():
            return False
        self.status = known.status
        self.fields = [*known.fields, (b"content-length", length)]
        self._left = int(length)
        self.done = not self._left
        self.keep_alive = self._repeats = True
        return True

    def ends_with(self, rest: bytes) -> bool:
        """Whether what came behind the head is the whole body, known by its length; `done` then."""
        if self._left == len(rest) and self.chunked is None and not self.by_close:
            self.done = True
            return True
        return False

    def _hold(self, data: bytes) -> None:
        if data:
            self._check_unfinished(data)
        self._held = data

    def _check_unfinished(self, data: bytes) -> None:
        """See early what can become no head."""
        if not _BEGIN.startswith(data[: len(_BEGIN)]):
            raise BadAnswer("it does not begin with HTTP/1.")
        if self._head_bytes + len(data) > _MOST_HEAD_BYTES:
            raise BadAnswer("the head is too large")
        if data.count(b"\n") != data.count(b"\r\n"):
            raise BadAnswer("a line of its head does not end with CR LF")

    def _frame(self, fields: Headers, *, http10: bool, bodiless: bool) -> None:
        index = dict(fields)
        length = index.get(b"content-length")
        plain = len(index) == len(fields) and b"connection" not in index and not http10
        if plain and not bodiless and length is not None and b"transfer-encoding" not in index:
            # Nearly all answers with a length; what follows is for the others.
            self._left = _read_length(length)
            self.done = not self._left
            self.keep_alive = True
            return
        if b"transfer-encoding" in index:
            self._check_coding(fields, http10=http10, has_length=length is not None)
            self.chunked = None if bodiless else ChunkedReader()
        elif length is not None:
            self._left = 0 if bodiless else _read_length(length)
            if not plain and count_field(fields, b"content-length") > 1:
                raise BadAnswer("it has more than one Content-Length")
        else:
            self.by_close = not bodiless
        self.done = bodiless or (not self._left and self.chunked is None and not self.by_close)
        options = () if plain else read_tokens(fields, b"connection")
        self.keep_alive = not self.by_close and b"close" not in options and (not http10 or b"keep-alive" in options)

    def _check_coding(self, fields: Headers, *, http10: bool, has_length: bool) -> None:
        values = [value.lower() for name, value in fields if name == b"transfer-encoding"]
        if values != [b"chunked"] or http10 or has_length:
            raise BadAnswer("its length is in doubt: Transfer-Encoding is not just 'chunked', or not alone")

    def read_body(self, data: bytes) -> bytes:
        """The body in these bytes; `done`, `surplus` and `fault` tell the rest."""
        self._repeats = False
        if self.done:
            self.surplus = bool(data)
            return b""
        if self.chunked is not None:
            return self._read_chunked(self.chunked, data)
        if self.by_close:
            return data
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data
        self.done = True
        if left:
            self.surplus = True
            return data[:left]
        return data

    def _read_chunked(self, chunked: ChunkedReader, data: bytes) -> bytes:
        pieces: list[bytes] = []
        try:
            at = chunked.feed(data, 0, pieces)
        except ChunkError as error:
            self.fault = str(error)
        else:
            self.done = chunked.done
            self.surplus = at < len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _know_answer(raw: bytes, status: int, fields: Headers) -> KnownAnswer | None:
    """What to compare the next head with; None when it is long, or says more of the connection than its length."""
    names = [name for name, _ in fields]
    if len(raw) > LONGEST_KNOWN_BYTES or b"connection" in names or names.count(b"content-length") != 1:
        return None
    for mark in LENGTH_MARKS:
        before, found, rest = raw.partition(mark)
        if found and before.startswith(b"HTTP/1.1 "):
            others = [field for field in fields if field[0] != b"content-length"]
            return KnownAnswer(mark, before, rest.partition(b"\r\n")[2], status, others)
    return None


def _read_status(line: bytes) -> tuple[int, bool]:
    match = _STATUS.fullmatch(line)
    if match is None:
        raise BadAnswer("it has no status line of HTTP/1")
    found = (int(match[2]), match[1] == b"0")
    if len(_seen_status) >= _MOST_SEEN:
        _seen_status.clear()
    _seen_status[line] = found
    return found


def _read_length(value: bytes) -> int:
    if not value.isdigit() or len(value) > _MOST_DIGITS:
        raise BadAnswer("its Content-Length is not a number")
    return int(value)
