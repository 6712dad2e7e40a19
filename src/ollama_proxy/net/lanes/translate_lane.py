"""The translate lane: an answer in another dialect than the client's, as events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ollama_proxy.domain.answer import AnswerEvent, Finished, Progress
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import AttemptSink
from ollama_proxy.net.http1.exchange import Headers
from ollama_proxy.net.lanes.framing import EventTooLong
from ollama_proxy.net.lanes.kept import MOST_CHARS, Kept
from ollama_proxy.net.lanes.upstream import DecodeError, HttpAttempt, UpstreamError, failure_in_stream

#: So many events are kept before they are joined.
_MOST_EVENTS = 512


class Decoder(Protocol):
    """Turns the bytes of one answer into events. Raises `DecodeError` and `UpstreamError`."""

    @property
    def calling(self) -> bool:
        """Whether the call of a tool has begun, told as an event or not."""

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        """The events that `data` completes."""

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        """Last events, and the regular end, or None when its marker never came."""

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        """The same of a stream that broke off, where all was told but the end marker; else nothing and None."""


@runtime_checkable
class Surveyor(Protocol):
    """A decoder that keeps events which whoever goes on with the stream has to know as they came."""

    landmarks: list[bytes]


class DecodedAttempt(HttpAttempt):
    """The translate lane: events."""

    def __init__(self, sink: AttemptSink, decoder: Decoder) -> None:
        super().__init__(sink)
        self._decoder = decoder
        #: What went on, and what was joined of it.
        self._passed: list[AnswerEvent] = []
        self._kept: Kept | None = Kept()

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
            self._fail(failure_in_stream(str(error)))
        else:
            self._tell([*events, *more] if events else more, finished)

    def on_chunk(self, chunk: bytes, begin: int) -> None:
        self.on_body(chunk[begin:-2])

    def _begin(self, length: bytes) -> None:
        return

    def _take(self, data: bytes) -> None:
        events = self._decoder.feed(data)
        if events:
            self._passed += events
            if len(self._passed) > _MOST_EVENTS:
                self.read_kept()
            self._owner.on_events(events)

    # -- what the client has ---------------------------------------------------

    def kept_bytes(self) -> int:
        return self._kept.chars if self._kept is not None else 0

    def read_kept(self) -> None:
        passed, self._passed = self._passed, []
        kept = self._kept
        if kept is None:
            return
        kept.add(passed)
        kept.join()
        if kept.chars > MOST_CHARS:
            self._kept = None

    def give_up_kept(self) -> None:
        self._passed, self._kept = [], None

    def wrote_plain_text(self) -> bool:
        self.read_kept()
        return self._kept is not None and self._kept.is_plain_text

    def take_over(self) -> Progress | None:
        self.read_kept()
        kept = self._kept
        if kept is None:
            return None
        try:
            rest, finished = self._decoder.settle()
        except (DecodeError, UpstreamError):
            return None
        return Progress(kept.events(), kept.tokens, self._decoder.calling, finished=finished, rest=rest)

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
