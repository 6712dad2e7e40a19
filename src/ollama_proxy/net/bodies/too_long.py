"""Whether a server refused a request for its length. Each says so in its own words; a few have a code for it."""

from __future__ import annotations

import re

#: In the body, beside the sentence: OpenAI's and llama.cpp's.
_CODES = (b'"context_length_exceeded"', b'"exceed_context_size_error"')
#: In the sentence. An input too large for llama.cpp's batch is one that others have a larger batch for.
_WORDS = re.compile(
    r"exceeds? (the )?(available context size|(maximum |model'?s? )?context length)"  # llama.cpp, Ollama
    r"|too large to process"  # llama.cpp
    r"|prompt too long; exceeded"  # Ollama
    r"|maximum context length"  # OpenAI, vLLM
    r"|longer than the (maximum model length|model's context length)"  # vLLM, SGLang
    r"|prompt is too long: \d|input length and `max_tokens` exceed"  # Anthropic
    r"|`inputs` (must have less than|tokens \+ `max_new_tokens`)"  # text-generation-inference
    r"|may only process prompts up to|MAX_PROMPT_LEN|exceeds model max length"  # OpenVINO on NPUs, its model server
    r"|loaded with context length of only",  # LM Studio
    re.IGNORECASE,
)
#: Only where a sentence begins does a server speak; further on it may quote the request.
_LOOKED_AT = 200


def is_too_long(text: str, body: bytes = b"") -> bool:
    """By the sentence of an error and the body around it."""
    return _WORDS.search(text, 0, _LOOKED_AT) is not None or any(code in body for code in _CODES)
