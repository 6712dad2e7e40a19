"""The end of a message, read from the tail of its events, or from the whole of it."""

from __future__ import annotations

import pytest

from ollama_proxy.domain.answer import Finished, Usage
from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.net.endings.anthropic import read_anthropic_body, read_anthropic_tail
from ollama_proxy.net.endings.errors import error_in_event
from ollama_proxy.net.lanes.upstream import failure_kind

DELTA = (
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"E"},'
    b'"usage":{"input_tokens":3,"output_tokens":9,"cache_read_input_tokens":2}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
ERROR = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'


@pytest.mark.parametrize(
    "tail", [DELTA + STOP, (DELTA + STOP).replace(b"\n", b"\r\n"), DELTA + STOP + b"data: [DONE]\n\n"]
)
def test_a_stream_ends_with_its_marker(tail: bytes) -> None:
    assert read_anthropic_tail(tail) == Finished("stop", Usage(5, 9, cached_tokens=2), "E")


def test_the_marker_is_enough() -> None:
    assert read_anthropic_tail(STOP) == Finished()


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        DELTA,
        DELTA + ERROR,
        STOP[:-12],
        b'data: {"type":"content_block_delta","delta":{"text":"data: {\\"type\\":\\"message_stop\\"}"}}\n\n',
        b'data: {"type":5}\n\n',
    ],
)
def test_what_did_not_end_well_has_no_end(tail: bytes) -> None:
    assert read_anthropic_tail(tail) is None


def test_an_error_has_told_why() -> None:
    assert error_in_event(ERROR.splitlines()[1]) == "Overloaded"


def test_whole_messages_and_counts() -> None:
    body = b'{"type":"message","stop_reason":"max_tokens","usage":{"input_tokens":3,"output_tokens":9}}'
    assert read_anthropic_body(body) == Finished("length", Usage(3, 9))
    assert read_anthropic_body(b'{"input_tokens":5}') == Finished()
    for bad in (
        ERROR.splitlines()[1][6:],
        b"{",
        b"[1]",
        b'{"type":"message","usage":5}',
        b'{"error":{"message":"no"}}',
    ):
        assert read_anthropic_body(bad) is None


def test_an_overloaded_server_is_not_to_blame() -> None:
    assert failure_kind(529, "Overloaded") is FailureKind.RATE_LIMITED
    assert FailureKind.RATE_LIMITED.retryable
    assert not FailureKind.RATE_LIMITED.blames_backend
