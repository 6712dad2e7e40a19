"""The end of a stream, read from its tail: the marker itself, and not what looks like it."""

from __future__ import annotations

import pytest

from ollama_proxy.net.endings import error_in_event, read_openai_body, read_openai_tail


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
