"""The fast lane: what its sink hears of answers with nothing in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ollama_proxy.domain.answer import AnswerEvent, Finished
from ollama_proxy.domain.call import Dialect
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.net.endings import ENDINGS
from ollama_proxy.net.fast_lane import RawAttempt

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
