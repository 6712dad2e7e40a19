"""The translate lane's attempt: what its sink hears of answers that come whole, in chunks, or broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from ollama_proxy.backends.ollama.answers import AnswerDecoder
from ollama_proxy.domain.answer import AnswerEvent, Finished, TextDelta
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.net.lanes.translate_lane import DecodedAttempt

JSON = [(b"content-type", b"application/json")]
TEXT = b'{"response":"a"}'
END = b'{"response":"b","done":true}'


class Sink:
    """Keeps what it is told; may drop the attempt at its first events, as a client that leaves does."""

    def __init__(self, *, leaves: bool = False) -> None:
        self.told: list[object] = []
        self.attempt = DecodedAttempt(self, AnswerDecoder())
        self._leaves = leaves

    def on_head(self, status: int, content_type: bytes, length: int | None) -> None:
        raise AssertionError("a raw answer")

    def on_raw(self, data: bytes) -> None:
        raise AssertionError("a raw answer")

    def relay(self) -> Callable[[bytes], None] | None:
        raise AssertionError("a raw answer")

    def on_whole(self, status: int, content_type: bytes, body: bytes, finished: Finished) -> None:
        raise AssertionError("a raw answer")

    def on_events(self, events: Sequence[AnswerEvent]) -> None:
        self.told += events
        if self._leaves:
            self.attempt.abort()

    def on_end(self, finished: Finished) -> None:
        self.told.append(finished.reason)

    def on_failure(self, failure: Failure) -> None:
        self.told.append(failure.kind)


def in_pieces(sink: Sink, body: bytes) -> None:
    sink.attempt.on_response(200, JSON)
    for piece in body.splitlines(keepends=True):
        if not sink.attempt.aborted:
            sink.attempt.on_chunk(b"%x\r\n%b\r\n" % (len(piece), piece), len(b"%x\r\n" % len(piece)))
    if not sink.attempt.aborted:
        sink.attempt.on_complete()


def whole(sink: Sink, body: bytes) -> None:
    sink.attempt.on_answer(200, JSON, body)


@pytest.mark.parametrize("deliver", [whole, in_pieces])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_an_answer_is_told_event_by_event(deliver: Callable[[Sink, bytes], None], end: bytes) -> None:
    sink = Sink()
    deliver(sink, TEXT + b"\n" + END + end)
    assert sink.told == [TextDelta("a"), TextDelta("b"), "stop"]


@pytest.mark.parametrize("deliver", [whole, in_pieces])
def test_a_client_that_leaves_hears_no_end(deliver: Callable[[Sink, bytes], None]) -> None:
    sink = Sink(leaves=True)
    deliver(sink, END)
    assert sink.told == [TextDelta("b")]


@pytest.mark.parametrize(
    ("rest", "kind"),
    [
        (b"", FailureKind.CUT),
        (b"\nnot json\n", FailureKind.GARBAGE),
        (b'\n{"error":"no memory"}\n', FailureKind.SERVER_ERROR),
    ],
)
def test_a_whole_answer_that_is_no_good_may_be_asked_for_elsewhere(rest: bytes, kind: FailureKind) -> None:
    sink = Sink()
    whole(sink, TEXT + rest)
    assert sink.told == [kind], "events came before the failure"


@pytest.mark.parametrize("deliver", [whole, in_pieces])
@pytest.mark.parametrize("body", [b"not json", b'{"error":"no memory"}', b"", TEXT])
def test_a_bad_answer_fails_once(deliver: Callable[[Sink, bytes], None], body: bytes) -> None:
    sink = Sink()
    deliver(sink, body)
    assert isinstance(sink.told[-1], FailureKind)
    assert sum(isinstance(one, FailureKind) for one in sink.told) == 1


def test_a_refusal_is_read_from_its_status() -> None:
    sink = Sink()
    sink.attempt.on_answer(404, JSON, b'{"error":"model not found"}')
    assert sink.told == [FailureKind.MODEL_MISSING]
