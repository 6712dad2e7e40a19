"""Servers say in their own words that a prompt is too long; that is not the words of any other refusal."""

from __future__ import annotations

import pytest

from ollama_proxy.net.bodies.too_long import is_too_long

SAID = (
    "request (5012 tokens) exceeds the available context size (4096 tokens), try increasing it",
    "the request exceeds the available context size, try increasing it",
    "input (900 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
    "the input length exceeds the context length",
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
    "'max_tokens' is too large: 9000. This model's maximum context length is 4096 tokens and your request has 10",
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "prompt is too long: 210000 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 190000 + 21333 > 204648",
    "Input validation error: `inputs` must have less than 1024 tokens. Given: 3000",
    "Stateful LLM pipeline on NPU may only process prompts up to 1024 tokens. Set the MAX_PROMPT_LEN option",
)


@pytest.mark.parametrize("text", SAID)
def test_they_are_understood(text: str) -> None:
    assert is_too_long(text)


def test_a_code_does_without_words() -> None:
    assert is_too_long("Zu lang.", b'{"error":{"message":"Zu lang.","code":"context_length_exceeded"}}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "invalid option: temperature",
        "context deadline exceeded",
        "model 'long-context' not found",
        "the request body is too large",
        "x" * 200 + " exceeds the available context size",
    ],
)
def test_other_refusals_are_not_taken_for_it(text: str) -> None:
    assert not is_too_long(text, b'{"error": "no"}')
