"""Log probabilities in the two forms of OpenAI's answers, as the one form of our events."""

from __future__ import annotations

from typing import Any

import msgspec


class _Token(msgspec.Struct, omit_defaults=True):
    token: str = ""
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list[_Token] | None = None


class Logprobs(msgspec.Struct):
    """`content` in chats, and in completions of llama.cpp; four lists side by side in other completions."""

    content: list[_Token] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None


def read_logprobs(given: Logprobs) -> tuple[dict[str, Any], ...]:
    """An entry for each token, with the members that every dialect has for it."""
    if given.content is not None:
        return tuple(_plain(token) for token in given.content)
    probabilities, tops = given.token_logprobs or [], given.top_logprobs or []
    found = []
    for place, token in enumerate(given.tokens or ()):
        logprob = probabilities[place] if place < len(probabilities) else None
        top = tops[place] if place < len(tops) else None
        others = [_Token(name, value, list(name.encode())) for name, value in top.items()] if top else None
        found.append(_plain(_Token(token, logprob, list(token.encode()), others)))
    return tuple(found)


def _plain(token: _Token) -> dict[str, Any]:
    entry: dict[str, Any] = {"token": token.token, "logprob": token.logprob}
    if token.bytes is not None:
        entry["bytes"] = token.bytes
    # Nothing asked for is no member; llama.cpp writes an empty list then.
    if token.top_logprobs:
        entry["top_logprobs"] = [_plain(top) for top in token.top_logprobs]
    return entry
