"""The fast lane: what its sink hears of answers with nothing in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ollama_proxy.backends.openai.answers import StreamDecoder
from ollama_proxy.domain.answer import AnswerEvent, Finished, TextDelta
from ollama_proxy.domain.call import Dialect
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.net.endings import ENDINGS
from ollama_proxy.net.lanes.fast_lane import RawAttempt

JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]
CHUNK = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.body = b""
        self.end: Finished | Failure | None = None

    def on_head(self, status: int, content_type: bytes, length: int | None) -> None:
        return

    def on_raw(self, data: bytes) -> None:
        self.body += data

    def relay(self) -> Callable[[bytes], None] | None:
        return None

    def on_whole(self, status: int, content_type: bytes, body: bytes, finished: Finished) -> None:
        self.body, self.end = body, finished

    def on_events(self, events: Sequence[AnswerEvent]) -> None:
        raise AssertionError("no raw answer")

    def on_end(self, finished: Finished) -> None:
        self.end = finished

    def on_failure(self, failure: Failure) -> None:
        self.end = failure


def hear(headers: list[tuple[bytes, bytes]], *pieces: bytes, dialect: Dialect = Dialect.OPENAI) -> Sink:
    sink = Sink()
    attempt = RawAttempt(sink, *ENDINGS[dialect])
    attempt.on_response(200, headers)
    for piece in pieces:
        if not attempt.aborted:
            attempt.on_body(piece)
    if not attempt.aborted:
        attempt.on_complete()
    return sink


@pytest.mark.parametrize("dialect", ENDINGS)
@pytest.mark.parametrize("at_once", [True, False])
def test_no_body_is_no_answer(dialect: Dialect, *, at_once: bool) -> None:
    sink = Sink()
    if at_once:
        RawAttempt(sink, *ENDINGS[dialect]).on_answer(200, JSON, b"")
    else:
        sink = hear(JSON, dialect=dialect)
    assert isinstance(sink.end, Failure)
    assert (sink.end.kind, sink.body) == (FailureKind.GARBAGE, b"")


def test_a_marker_alone_is_no_answer() -> None:
    sink = hear(EVENTS, DONE)
    assert isinstance(sink.end, Failure)
    assert (sink.end.kind, sink.body) == (FailureKind.GARBAGE, b"")
    assert isinstance(hear(EVENTS, CHUNK, DONE).end, Finished)


def test_comments_may_come_before_the_answer() -> None:
    sink = hear(EVENTS, b": PROCESSING\n\n", b": PROCESSING\n\n", CHUNK, DONE)
    assert isinstance(sink.end, Finished)
    assert sink.body == b": PROCESSING\n\n" * 2 + CHUNK + DONE
    assert isinstance(hear(EVENTS, b": PROCESSING\n\n", DONE).end, Failure)
    error = b'data: {"error":{"message":"boom"}}\n\n'
    assert isinstance(hear(EVENTS, b": PROCESSING\n\n" + error).end, Failure)


TEXT = b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":null}]}\n\n'


def start(decoder: Callable[[], StreamDecoder] | None = StreamDecoder) -> RawAttempt:
    attempt = RawAttempt(Sink(), *ENDINGS[Dialect.OPENAI], None, decoder)
    attempt.on_response(200, EVENTS)
    return attempt


def test_what_is_kept_of_a_long_stream_is_what_it_says() -> None:
    attempt = start()
    words = [b"word %d " % number for number in range(2000)]
    for number, word in enumerate(words):
        attempt.on_body(TEXT % word)
        if number % 500 == 499:
            attempt.read_kept()
    assert attempt.kept_bytes() < sum([len(TEXT % word) for word in words]) / 5
    progress = attempt.take_over()
    assert progress is not None
    assert progress.events == [TextDelta(b"".join(words).decode())]
    assert (progress.tokens, progress.first) == (2000, TEXT % words[0])


def test_a_stream_that_nobody_looks_at_is_bounded_all_the_same() -> None:
    for decoder, most in ((StreamDecoder, 1.5), (None, 1.2)):
        attempt = start(decoder)
        for _ in range(300):
            attempt.on_body(TEXT % (b"x" * 10_000 if decoder is None else b"x" * 1000))
            assert attempt.kept_bytes() < most * 1024 * 1024


def test_a_stream_that_is_too_long_to_keep_is_given_up() -> None:
    attempt = start()
    for _ in range(600):
        attempt.on_body(TEXT % (b"x" * 10_000))
    assert attempt.kept_bytes() < 2 * 1024 * 1024
    assert attempt.take_over() is None


def test_the_words_of_a_stream_without_counts_are_counted_after_it_was_read_too() -> None:
    attempt = start()
    for _ in range(40):
        attempt.on_body(TEXT % b"word ")
    attempt.read_kept()
    attempt.on_body(CHUNK)
    attempt.on_body(DONE)
    attempt.on_complete()
    sink = attempt._owner
    assert isinstance(sink, Sink)
    assert isinstance(sink.end, Finished)
    assert sink.end.usage.output_tokens == 40


def test_what_was_broken_off_for_its_silence_can_be_gone_on_with() -> None:
    attempt = start()
    attempt.on_body(TEXT % b"word")
    attempt.abort()
    progress = attempt.take_over()
    assert progress is not None
    assert progress.events == [TextDelta("word")]
