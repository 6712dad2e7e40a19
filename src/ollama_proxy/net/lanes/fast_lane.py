"""The fast lane: an answer in the client's own dialect, its bytes handed on as they came, cut at event borders.

Nothing is parsed on the way but the first event, while another backend can still be asked; usage and end marker are
read from the tail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.domain.answer import Finished, Progress, Usage
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import AttemptSink
from ollama_proxy.net.bodies.model_name import NameEcho
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.endings import TAIL_PIECES, EndReader
from ollama_proxy.net.endings.errors import error_in_tail, error_text
from ollama_proxy.net.http1.exchange import Headers
from ollama_proxy.net.lanes.framing import EventBuffer, EventTooLong, LineBuffer
from ollama_proxy.net.lanes.kept import MOST_CHARS, Kept
from ollama_proxy.net.lanes.translate_lane import Decoder, Surveyor
from ollama_proxy.net.lanes.upstream import DecodeError, HttpAttempt, UpstreamError

_STREAMED = (b"application/x-ndjson", b"text/event-stream")
#: A unary answer up to this size is held until it is whole, so that a cut can still be mended elsewhere.
_MAX_HELD_BYTES = 8 * 1024 * 1024
#: Of a stream that is looked at less often than it is written, at most so much is kept as it came.
_MOST_KEPT_BYTES = 1024 * 1024


class _FirstEvent(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")
    type: msgspec.Raw = msgspec.Raw(b"null")


_first_event = msgspec.json.Decoder(_FirstEvent)


class RawAttempt(HttpAttempt):
    """The fast lane: bytes as they came."""

    _border: LineBuffer | EventBuffer | None = None
    _length: int | None = None
    _held: list[bytes] | None = None
    _held_size = 0
    #: What went on, each piece with where its body begins: behind 0 comes a body, behind more a chunk with its framing.
    _pieces: list[tuple[bytes, int]]
    _size = 0
    #: What was read of pieces that are kept no more, by whom, and the first of them.
    _read: Kept
    _decoder: Decoder | None = None
    _first = b""
    _fresh = True
    #: Line ends in pieces that are kept no more.
    _lines = 0
    _event_end = b""
    _relay: Callable[[bytes], None] | None = None

    def __init__(
        self,
        sink: AttemptSink,
        read_body: EndReader,
        read_tail: EndReader,
        echo: NameEcho | None = None,
        make_decoder: Callable[[], Decoder] | None = None,
    ) -> None:
        """`echo` where the answer names the model otherwise than the client did; `make_decoder` where a stream that
        breaks off may be read, so that another backend can go on behind it."""
        self._owner = sink
        self._make_decoder = make_decoder
        self._read_body = read_body
        self._read_tail = read_tail
        self._echo = echo

    def on_answer(self, status: int, headers: Headers, body: bytes) -> None:
        if status != 200:
            super().on_answer(status, headers, body)
            return
        content_type = dict(headers).get(b"content-type", b"")
        finished = None if content_type.startswith(_STREAMED) else self._read_body(body)
        if finished is None:
            super().on_answer(status, headers, body)
        else:
            self._over = True
            self._owner.on_whole(status, content_type, self._name(body), finished)

    def _name(self, data: bytes) -> bytes:
        echo = self._echo
        return data if echo is None else echo.rewrite(data)

    def _begin(self, length: bytes) -> None:
        if self._content_type.startswith(b"application/x-ndjson"):
            self._border = LineBuffer()
            self._event_end = b"\n\r\n"
        elif self._content_type.startswith(b"text/event-stream"):
            self._border = EventBuffer()
            self._event_end = b"\n\n\r\n"
        else:
            self._held = []
            self._length = int(length) if length.isdigit() else None
            return
        self._pieces, self._read = [], Kept()
        self._owner.on_head(self._status, self._content_type, None)

    def _take(self, data: bytes) -> None:
        border = self._border
        if border is None:
            self._hold(data)
            return
        data = border.feed_whole(data)
        if not data:
            return
        # Some servers send comments until their model begins: there is nothing in them to look at.
        fresh = self._fresh and not (data.startswith(b":") and b"\ndata:" not in data)
        if fresh:
            self._fresh = False
            check_first_event(data)
        if self._echo is not None:
            data = self._echo.rewrite(data)
        self._pieces.append((data, 0))
        self._size += len(data)
        self._owner.on_raw(data)
        if fresh and not self._over and self._echo is None:
            self._relay = self._owner.relay()
        if self._size > _MOST_KEPT_BYTES:
            self.read_kept()

    def on_chunk(self, chunk: bytes, begin: int) -> None:
        """Nearly all of a stream: a chunk that holds whole events goes on as it came, framing and all."""
        border, relay = self._border, self._relay
        if relay is not None and border is not None and not border.held and chunk.endswith(self._event_end):
            self._pieces.append((chunk, begin))
            self._size += len(chunk)
            self.relayed += 1
            relay(chunk)
            if self._size > _MOST_KEPT_BYTES:
                self.read_kept()
        else:
            self.on_body(chunk[begin:-2])

    def on_error(self, failure: Failure) -> None:
        """What breaks behind the end marker breaks nothing: the client has it all."""
        if not self._over and self._border is not None and self._read_tail(self._read_last()) is not None:
            self._end()
        else:
            super().on_error(failure)

    def _read_last(self) -> bytes:
        """The last pieces that went on, without their framing."""
        return b"".join([piece[begin:-2] if begin else piece for piece, begin in self._pieces[-TAIL_PIECES:]])

    # -- what the client has ---------------------------------------------------

    def kept_bytes(self) -> int:
        return self._size + self._read.chars if self._border is not None else 0

    def read_kept(self) -> None:
        """Read what is kept but for the tail, where the end will be looked for."""
        if self._border is None or self._over:
            return
        old = self._pieces[:-TAIL_PIECES]
        del self._pieces[:-TAIL_PIECES]
        self._lines += _count_lines(old)
        self._size = sum([len(piece) for piece, _ in self._pieces])
        try:
            self._read_pieces(old)
        except (DecodeError, UpstreamError, EventTooLong):
            self.give_up_kept()
        else:
            if self._read.chars > MOST_CHARS:
                self.give_up_kept()

    def give_up_kept(self) -> None:
        self._make_decoder = self._decoder = None
        if self._border is not None:
            self._read = Kept()
            self.read_kept()

    def _read_pieces(self, pieces: Sequence[tuple[bytes, int]]) -> None:
        if self._make_decoder is None:
            return
        decoder = self._decoder
        if decoder is None:
            decoder = self._decoder = self._make_decoder()
        for piece, begin in pieces:
            data = piece[begin:-2] if begin else piece
            self._first = self._first or data
            self._read.add(decoder.feed(data))
        self._read.join()

    def wrote_plain_text(self) -> bool:
        self.read_kept()
        return self._border is not None and self._make_decoder is not None and self._read.is_plain_text

    def take_over(self) -> Progress | None:
        if self._border is None or self._make_decoder is None:
            return None
        last = self._read_last()
        try:
            self._read_pieces(self._pieces)
            decoder = self._decoder or self._make_decoder()
            rest, finished = decoder.settle()
        except (DecodeError, UpstreamError, EventTooLong):
            return None
        self._pieces, self._size = [], 0
        read = self._read
        marks = decoder.landmarks if isinstance(decoder, Surveyor) else ()
        return Progress(read.events(), read.tokens, decoder.calling, self._first, last, finished, rest, marks)

    def _hold(self, data: bytes) -> None:
        held = self._held
        if held is None:
            self._owner.on_raw(data)
            return
        held.append(data)
        self._held_size += len(data)
        if self._held_size > _MAX_HELD_BYTES:
            self._held = None
            length = self._length if self._echo is None else None
            self._owner.on_head(self._status, self._content_type, length)
            self._owner.on_raw(self._name(b"".join(held)))

    def _end(self) -> None:
        if self._border is None:
            self._end_unary()
            return
        rest = self._border.rest()
        tail = self._read_last() + rest
        finished = self._read_tail(tail)
        if finished is None:
            text = error_in_tail(tail)
            message = text or "the stream ended without its end marker"
            self._fail(Failure(FailureKind.CUT, message, told=bool(text and not rest), quote=text))
            return
        if rest:
            self._owner.on_raw(self._name(rest))
        self._over = True
        self._owner.on_end(self._with_count(finished))

    def _with_count(self, finished: Finished) -> Finished:
        """Where the stream carries no usage, its events stand for tokens: servers send one a token."""
        if finished.usage.output_tokens is not None:
            return finished
        per_event = 2 if isinstance(self._border, EventBuffer) else 1
        counted = max(0, (self._lines + _count_lines(self._pieces)) // per_event - 2)
        return Finished(finished.reason, Usage(finished.usage.prompt_tokens, counted, counted_events=True))

    def _end_unary(self) -> None:
        held = self._held
        if held is None:
            self._over = True
            self._owner.on_end(Finished())
            return
        body = held[0] if len(held) == 1 else b"".join(held)
        finished = self._read_body(body)
        if finished is None:
            raise DecodeError("the body is not the JSON that was expected" if body else "there is no body")
        self._over = True
        self._owner.on_whole(self._status, self._content_type, self._name(body), finished)


def _count_lines(pieces: Sequence[tuple[bytes, int]]) -> int:
    """Line ends in pieces, but for those of their framing."""
    return sum([piece.count(b"\n") - (2 if begin else 0) for piece, begin in pieces])


def check_first_event(data: bytes) -> None:
    """Look into a stream once, at its first event, while another backend can still be asked.

    Raises `DecodeError` when it is not JSON or the end already, `UpstreamError` when it is an error.
    """
    line = next((one for one in data.split(b"\n") if one.startswith((b"data:", b"{"))), b"")
    payload = line.removeprefix(b"data:").strip()
    if payload == b"[DONE]":
        raise DecodeError("there is no answer in it")
    try:
        first = _first_event.decode(payload)
    except UNREADABLE as error:
        raise DecodeError(str(error)) from None
    if bytes(first.error) != b"null" or bytes(first.type) == b'"error"':
        raise UpstreamError(error_text(payload) or "error in the answer")
