"""The end of a stream, read from its tail: the marker itself, and not what looks like it."""

from __future__ import annotations

import pytest

from ollama_proxy.net.endings.errors import error_in_event
from ollama_proxy.net.endings.openai import read_openai_body, read_openai_tail
from ollama_proxy.net.endings.responses import read_responses_body, read_responses_tail


@pytest.mark.parametrize(
    "tail",
    [
        b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"\\ndata: [DONE]\\n"}}]}\n\n',
        b'data: {"x": "y"}\n\ndata: [DON',
        b"",
    ],
)
def test_what_a_model_says_is_no_end(tail: bytes) -> None:
    assert read_openai_tail(tail) is None


@pytest.mark.parametrize(
    "tail", [b"data: [DONE]\n\n", b'data: {"x":1}\n\ndata:[DONE]\n\n', b"data: {}\r\rdata: [DONE]\r\r"]
)
def test_the_marker_at_the_start_of_a_line_is(tail: bytes) -> None:
    assert read_openai_tail(tail) is not None


@pytest.mark.parametrize("body", [b'{"usage":"caf\xff"}', b"[" * 200_000, b"{"])
def test_bodies_that_cannot_be_read_have_no_end(body: bytes) -> None:
    assert read_openai_body(body) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'data: {"error":{"message":"out of memory"}}', "out of memory"),
        (b'{"error":"out of memory"}', "out of memory"),
        (b'{"response":"half an ev', ""),
        (b'{"response":"caf\xff"}', ""),
        (b'{"response":"whole"}', ""),
    ],
)
def test_only_an_error_is_told_as_one(line: bytes, text: str) -> None:
    assert error_in_event(line) == text


COMPLETED = b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":%b}}\n\n'
USAGE = b'{"input_tokens":5,"output_tokens":7,"input_tokens_details":{"cached_tokens":2}}'


def test_a_response_ends_with_its_last_event() -> None:
    finished = read_responses_tail(b'data: {"type":"response.output_text.done"}\n\n' + COMPLETED % USAGE)
    assert finished is not None
    assert finished.reason == "stop"
    usage = finished.usage
    assert (usage.prompt_tokens, usage.output_tokens, usage.cached_tokens) == (5, 7, 2)
    assert read_responses_tail(COMPLETED % b"null" + b"data: [DONE]\n\n") is not None


@pytest.mark.parametrize(
    ("lack", "reason"), [(b"max_output_tokens", "length"), (b"content_filter", "content_filter"), (b"other", "stop")]
)
def test_a_response_may_be_cut_by_a_limit(lack: bytes, reason: str) -> None:
    response = b'{"incomplete_details":{"reason":"%b"}}' % lack
    tail = b'data: {"type":"response.incomplete","response":%b}\n\n' % response
    for finished in (read_responses_tail(tail), read_responses_body(response)):
        assert finished is not None
        assert finished.reason == reason


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b'data: {"type":"response.output_text.done","text":"data: {\\"type\\":\\"response.completed\\"}"}\n\n',
        COMPLETED % USAGE + b'data: {"type":"response.output_text.delta"}\n\n',
        b'data: {"type":"response.failed","response":{"error":{"message":"out of memory"}}}\n\n',
        b'data: {"type":"response.compl',
        b'data: {"type":5}\n\n',
    ],
)
def test_a_response_that_did_not_end_well_has_no_end(tail: bytes) -> None:
    assert read_responses_tail(tail) is None


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"usage":5}'])
def test_a_response_that_cannot_be_read_has_no_end(body: bytes) -> None:
    assert read_responses_body(body) is None


@pytest.mark.parametrize(
    "line",
    [
        b'data: {"type":"response.failed","response":{"error":{"code":"x","message":"out of memory"}}}',
        b'data: {"type":"error","code":"x","message":"out of memory"}',
    ],
)
def test_a_response_that_failed_has_told_why(line: bytes) -> None:
    assert error_in_event(line) == "out of memory"
