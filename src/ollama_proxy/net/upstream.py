"""One attempt at an HTTP upstream: head, error bodies, and the two lanes of the answer.

`RawAttempt` hands bytes on as they came, cut at event borders; `DecodedAttempt` turns them into events. Both end in
exactly one of `on_end` and `on_failure`, and turn a clean end without the dialect's end marker into a failure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Finished, Usage
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import AttemptSink
from ollama_proxy.net.endings import TAIL_PIECES, error_text
from ollama_proxy.net.framing import EventBuffer, EventTooLong, LineBuffer
from ollama_proxy.net.http1.client import Origin, OriginPool, Upload
from ollama_proxy.net.http1.exchange import Headers

_STREAMED = (b"application/x-ndjson", b"text/event-stream")
_MAX_ERROR_BYTES = 64 * 1024
#: A unary answer up to this size is held until it is whole, so that a cut can still be mended elsewhere.
_MAX_HELD_BYTES = 8 * 1024 * 1024


class _FirstEvent(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw(b"null")


_first_event = msgspec.json.Decoder(_FirstEvent)

EndReader = Callable[[bytes], Finished | None]


class DecodeError(Exception):
    """The upstream's answer cannot be read."""


class UpstreamError(Exception):
    """The upstream reported an error inside its answer."""


class Decoder(Protocol):
    """Turns the bytes of one answer into events. Raises `DecodeError` and `UpstreamError`."""

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        """The events that `data` completes."""

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        """Last events, and the regular end, or None when its marker never came."""


class HttpAttempt(Upload):
    """What both lanes share: a request on its way whose answer it hears itself, the head, and error bodies."""

    takes_answers = True
    relayed = 0
    _status = 0
    _over = False
    _content_type = b""
    _retry_after_s = 0.0
    _error_body = b""

    def __init__(self, sink: AttemptSink) -> None:
        self._owner = sink

    @property
    def sink(self) -> HttpAttempt:
        return self

    def send(self, pool: OriginPool, request: bytes) -> HttpAttempt:
        """Send the request; answers come later."""
        self.request = request
        pool.start(self)
        return self

    def abort(self) -> None:
        self._over = True
        super().abort()

    def on_response(self, status: int, headers: Headers) -> None:
        self._status = status
        index = dict(headers)
        self._content_type = index.get(b"content-type", b"")
        if status < 300:
            self._begin(index.get(b"content-length", b""))
        elif (delay := index.get(b"retry-after", b"")).isdigit():
            self._retry_after_s = float(delay)

    def on_body(self, data: bytes) -> None:
        if self._over:
            return
        if self._status >= 300:
            if len(self._error_body) < _MAX_ERROR_BYTES:
                self._error_body += data
            return
        try:
            self._take(data)
        except EventTooLong as error:
            self._fail_and_abort(Failure(FailureKind.GARBAGE, str(error)))
        except DecodeError as error:
            self._fail_and_abort(Failure(FailureKind.GARBAGE, f"unreadable answer: {error}"))
        except UpstreamError as error:
            self._fail_and_abort(Failure(FailureKind.SERVER_ERROR, str(error)))

    def on_answer(self, status: int, headers: Headers, body: bytes) -> None:
        self.on_response(status, headers)
        if body and not self.aborted:
            self.on_body(body)
        if not self.aborted:
            self.on_complete()

    def on_complete(self) -> None:
        if self._over:
            return
        if self._status >= 300:
            self._fail(self._status_failure())
            return
        try:
            self._end()
        except DecodeError as error:
            self._fail(Failure(FailureKind.GARBAGE, f"unreadable answer: {error}"))
        except UpstreamError as error:
            self._fail(Failure(FailureKind.SERVER_ERROR, str(error)))

    def on_error(self, failure: Failure) -> None:
        if not self._over:
            self._fail(failure)

    def _begin(self, length: bytes) -> None:
        raise AssertionError("a lane overrides this")

    def _take(self, data: bytes) -> None:
        raise AssertionError("a lane overrides this")

    def _end(self) -> None:
        raise AssertionError("a lane overrides this")

    def _fail(self, failure: Failure) -> None:
        self._over = True
        self._owner.on_failure(failure)

    def _fail_and_abort(self, failure: Failure) -> None:
        super().abort()
        self._fail(failure)

    def _status_failure(self) -> Failure:
        body = self._error_body
        text = error_text(body)
        message = f"HTTP {self._status}" + (f": {text}" if text else "")
        kind = failure_kind(self._status, text)
        # What the client did wrong is a 400 to it, whatever the server called it.
        status = 400 if kind is FailureKind.REJECTED and self._status >= 500 else self._status
        return Failure(kind, message, status, body, self._content_type, self._retry_after_s)


class RawAttempt(HttpAttempt):
    """The fast lane: bytes as they came."""

    _border: LineBuffer | EventBuffer | None = None
    _length: int | None = None
    _held: list[bytes] | None = None
    _held_size = 0
    #: The last pieces, each with where its body begins: behind 0 comes a body, behind more a chunk with its framing.
    _tail: deque[tuple[bytes, int]]
    _fresh = True
    _events = 0
    _event_end = b""
    _relay: Callable[[bytes], None] | None = None

    def __init__(self, sink: AttemptSink, read_body: EndReader, read_tail: EndReader) -> None:
        self._owner = sink
        self._read_body = read_body
        self._read_tail = read_tail

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
            self._owner.on_whole(status, content_type, body, finished)

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
        self._tail = deque(maxlen=TAIL_PIECES)
        self._owner.on_head(self._status, self._content_type, None)

    def _take(self, data: bytes) -> None:
        border = self._border
        if border is None:
            self._hold(data)
            return
        data = border.feed_whole(data)
        if not data:
            return
        fresh = self._fresh
        if fresh:
            self._fresh = False
            check_first_event(data)
        self._events += data.count(b"\n")
        self._tail.append((data, 0))
        self._owner.on_raw(data)
        if fresh and not self._over:
            self._relay = self._owner.relay()

    def on_chunk(self, chunk: bytes, begin: int) -> None:
        """Nearly all of a stream: a chunk that holds whole events goes on as it came, framing and all."""
        border, relay = self._border, self._relay
        if relay is not None and border is not None and not border.held and chunk.endswith(self._event_end):
            self._tail.append((chunk, begin))
            self._events += chunk.count(b"\n") - 2
            self.relayed += 1
            relay(chunk)
        else:
            self.on_body(chunk[begin:-2])

    def _hold(self, data: bytes) -> None:
        held = self._held
        if held is None:
            self._owner.on_raw(data)
            return
        held.append(data)
        self._held_size += len(data)
        if self._held_size > _MAX_HELD_BYTES:
            self._held = None
            self._owner.on_head(self._status, self._content_type, self._length)
            self._owner.on_raw(b"".join(held))

    def _end(self) -> None:
        if self._border is None:
            self._end_unary()
            return
        rest = self._border.rest()
        tail = b"".join([piece[begin:-2] if begin else piece for piece, begin in self._tail]) + rest
        finished = self._read_tail(tail)
        if finished is None:
            text = error_text(tail.rstrip().rsplit(b"\n", 1)[-1].removeprefix(b"data: "))
            self._fail(Failure(FailureKind.CUT, text or "the stream ended without its end marker"))
            return
        if rest:
            self._owner.on_raw(rest)
        self._over = True
        self._owner.on_end(self._with_count(finished))

    def _with_count(self, finished: Finished) -> Finished:
        """Where the stream carries no usage, its events stand for tokens: servers send one a token."""
        if finished.usage.output_tokens is not None:
            return finished
        per_event = 2 if isinstance(self._border, EventBuffer) else 1
        counted = max(0, self._events // per_event - 2)
        return Finished(finished.reason, Usage(finished.usage.prompt_tokens, counted, counted_events=True))

    def _end_unary(self) -> None:
        held = self._held
        if held is None:
            self._over = True
            self._owner.on_end(Finished())
            return
        body = held[0] if len(held) == 1 else b"".join(held)
        finished = self._read_body(body)
        if finished is None and body:
            raise DecodeError("the body is not the JSON that was expected")
        self._over = True
        self._owner.on_whole(self._status, self._content_type, body, finished or Finished())


class DecodedAttempt(HttpAttempt):
    """The translate lane: events."""

    def __init__(self, sink: AttemptSink, decoder: Decoder) -> None:
        super().__init__(sink)
        self._decoder = decoder

    def on_answer(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer: it is read to its end before anybody hears of it, so another backend can still be asked."""
        if status != 200:
            super().on_answer(status, headers, body)
            return
        decoder = self._decoder
        try:
            events = decoder.feed(body)
            more, finished = decoder.end()
        except EventTooLong as error:
            self._fail(Failure(FailureKind.GARBAGE, str(error)))
        except DecodeError as error:
            self._fail(Failure(FailureKind.GARBAGE, f"unreadable answer: {error}"))
        except UpstreamError as error:
            self._fail(Failure(FailureKind.SERVER_ERROR, str(error)))
        else:
            self._tell([*events, *more] if events else more, finished)

    def on_chunk(self, chunk: bytes, begin: int) -> None:
        self.on_body(chunk[begin:-2])

    def _begin(self, length: bytes) -> None:
        return

    def _take(self, data: bytes) -> None:
        events = self._decoder.feed(data)
        if events:
            self._owner.on_events(events)

    def _end(self) -> None:
        events, finished = self._decoder.end()
        self._tell(events, finished)

    def _tell(self, events: Sequence[AnswerEvent], finished: Finished | None) -> None:
        """The last events, and the end."""
        if finished is None:
            self._fail(Failure(FailureKind.CUT, "the stream ended without its end marker"))
            return
        if events:
            self._owner.on_events(events)
            if self._over:
                return
        self._over = True
        self._owner.on_end(finished)


def check_first_event(data: bytes) -> None:
    """Look into a stream once, at its first event, while another backend can still be asked.

    Raises `DecodeError` when it is not JSON, `UpstreamError` when it is an error.
    """
    line = next((one for one in data.split(b"\n") if one.startswith((b"data:", b"{"))), b"")
    payload = line.removeprefix(b"data:").strip()
    if payload == b"[DONE]":
        return
    try:
        first = _first_event.decode(payload)
    except msgspec.DecodeError as error:
        raise DecodeError(str(error)) from None
    if bytes(first.error) != b"null":
        raise UpstreamError(error_text(payload) or "error in the answer")


def failure_kind(status: int, text: str) -> FailureKind:
    """What an HTTP status of an upstream means for the request (ollama-style 404s name a missing model)."""
    if status == 404:
        return FailureKind.MODEL_MISSING if "model" in text.lower() else FailureKind.REJECTED
    if status == 429:
        return FailureKind.RATE_LIMITED
    if status in (401, 403):
        return FailureKind.SERVER_ERROR
    if status >= 500:
        # llama.cpp says 500 to an input that does not fit its batch: asking again, or elsewhere, changes nothing.
        return FailureKind.REJECTED if "too large to process" in text else FailureKind.SERVER_ERROR
    if status < 400:
        return FailureKind.GARBAGE
    return FailureKind.REJECTED


def request_head(origin: Origin, method: bytes, path: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """The constant part of a request head, up to the value of Content-Length."""
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: " + origin.authority.encode("ascii")]
    lines += [b"%b: %b" % header for header in headers]
    return b"\r\n".join(lines) + b"\r\nContent-Length: "


def with_member(body: bytes, name: str, value: str) -> bytes:
    """The same JSON object with another value of one member: a model's name as the server spells it."""
    document = msgspec.json.decode(body)
    document[name] = value
    return msgspec.json.encode(document)


def join_request(head: bytes, body: bytes) -> bytes:
    """A whole request from its constant head and its body."""
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)
