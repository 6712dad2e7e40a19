"""The chunked coding (RFC 9112, 7.1), taken off a body that comes in pieces of any size.

It knows where the body ends to the byte, so that what follows is never part of it, and bounds what is not body:
extensions and trailers are read, checked and dropped.
"""

from __future__ import annotations

import re

from .fields import BadField, read_field

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb"\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*\""
_EXTENSION = rb"[\t ]*;[\t ]*%b(?:[\t ]*=[\t ]*(?:%b|%b))?" % (_TOKEN, _TOKEN, _QUOTED)
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:%b)*)" % _EXTENSION)
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_LONGEST_SIZE_BYTES = 18
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")
_MOST_SEEN = 4096


class _SeenSizes(dict[bytes, int]):
    """Numbers by their hexadecimal digits; what is no size is -3, which no length of a read can match."""

    def __missing__(self, text: bytes) -> int:
        if not _SIZE.fullmatch(text):
            return -3
        if len(self) >= _MOST_SEEN:
            self.clear()
        size = self[text] = int(text, 16)
        return size


_read_size = _SeenSizes().__getitem__


class ChunkError(ValueError):
    """A body that breaks the coding, or one of the limits; carries the status a server answers."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class ChunkedReader:
    """Takes the coding off one body."""

    __slots__ = (
        "_at_size",
        "_extension_left",
        "_field_bytes_left",
        "_fields_left",
        "_in_trailers",
        "_left",
        "_line",
        "_need_end",
        "done",
    )

    def __init__(self, *, extension_bytes: int = 16 * 1024, trailer_bytes: int = 32 * 1024, fields: int = 100) -> None:
        self.done = False
        #: Bytes of the current chunk still to come.
        self._left = 0
        #: Whether the line end behind a chunk's data is due.
        self._need_end = False
        self._in_trailers = False
        #: Whether a size line is due, and nothing of it has come.
        self._at_size = True
        self._line = b""
        self._extension_left = extension_bytes
        self._field_bytes_left = trailer_bytes
        self._fields_left = fields

    def feed(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Read on at an offset; body goes to `pieces`.

        Returns where reading stopped: the end of `data`, or of the body once `done`. Raises `ChunkError`.
        """
        size = len(data)
        while at < size and not self.done:
            if self._at_size and (stop := self._feed_chunk(data, at, pieces)):
                at = stop
            elif self._left:
                stop = min(at + self._left, size)
                pieces.append(data[at:stop])
                self._left -= stop - at
                self._need_end = not self._left
                at = stop
            else:
                at = self._feed_line(data, at)
        return at

    def find_chunk(self, data: bytes) -> int:
        """Where the body begins in a read that is one whole chunk with a body, as nearly all of a stream are; it ends
        before the last two bytes. 0 for any other read. Nothing is read by it."""
        if self._at_size:
            begin = data.find(b"\r\n", 0, _LONGEST_SIZE_BYTES) + 2
            size = len(data) - begin - 2
            if begin > 2 and size == _read_size(data[: begin - 2]) and size and data.endswith(b"\r\n"):
                return begin
        return 0

    def _feed_chunk(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take a chunk that is there from its size to its end. Where it ends, or 0."""
        begin = data.find(b"\r\n", at, at + _LONGEST_SIZE_BYTES) + 2
        count = _read_size(data[at : max(at, begin - 2)])
        stop = begin + count
        if count <= 0 or data[stop : stop + 2] != b"\r\n":
            return 0
        pieces.append(data[begin:stop])
        return stop + 2

    def _feed_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1
        line = self._line + data[at : end or len(data)]
        if not end:
            self._check_unfinished(line)
            self._line = line
            self._at_size = False
            return len(data)
        self._line = b""
        if not line.endswith(b"\r\n"):
            raise ChunkError("a line of a chunked body must end with CR LF")
        self._take_line(line[:-2])
        return end

    def _take_line(self, line: bytes) -> None:
        if self._need_end:
            if line:
                raise ChunkError("a chunk is longer than its size says")
            self._need_end = False
            self._at_size = True
        elif self._in_trailers:
            self._take_trailer(line)
        else:
            self._take_size(line)

    def _take_size(self, line: bytes) -> None:
        self._check_size_line(line)
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise ChunkError("a chunk's size must be hexadecimal digits")
        size, extension = match.groups()
        self._extension_left -= len(extension)
        self._left = int(size, 16)
        self._in_trailers = not self._left
        self._at_size = False

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._field_bytes_left -= len(line) + 2
        self._fields_left -= 1
        self._check_trailers(0)
        try:
            name, _ = read_field(line)
        except BadField as error:
            raise ChunkError(f"malformed trailer: {error}") from None
        if name in _FRAMING:
            raise ChunkError("a trailer cannot say how long the body is")

    def _check_unfinished(self, line: bytes) -> None:
        """A line without end is stopped where the whole line would be."""
        if self._need_end:
            if line != b"\r":
                raise ChunkError("a chunk is longer than its size says")
        elif self._in_trailers:
            if text := line.removesuffix(b"\r"):
                self._check_trailers(len(text) + 2)
        else:
            self._check_size_line(line.removesuffix(b"\r"))

    def _check_size_line(self, line: bytes) -> None:
        if len(line) > _LONGEST_SIZE_BYTES and b";" not in line[:_LONGEST_SIZE_BYTES]:
            raise ChunkError("a chunk's size must be at most 16 hexadecimal digits")
        if len(line) - _LONGEST_SIZE_BYTES > self._extension_left:
            raise ChunkError("the chunk extensions are too large", 413)

    def _check_trailers(self, more: int) -> None:
        if more > self._field_bytes_left or self._field_bytes_left < 0 or self._fields_left < 0:
            raise ChunkError("the trailers are too large", 431)
