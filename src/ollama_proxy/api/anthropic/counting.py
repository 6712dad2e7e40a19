"""How many tokens a prompt may have, for servers that do not count them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ollama_proxy.api.anthropic.writer import AnthropicWriter
from ollama_proxy.domain.call import Generation, Message
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_answer import HttpAnswer

#: Of English text in UTF-8, with the tokenizers of common models.
_BYTES_PER_TOKEN = 4
#: What a chat template puts around a turn.
_TOKENS_PER_TURN = 4
#: About what a picture of common size comes to.
_TOKENS_PER_IMAGE = 1000
_NOT_THERE = (404, 405, 501)
#: Says that nobody has counted.
_ESTIMATED = ((b"X-Token-Count-Kind", b"estimated"),)


class CountAnswer(HttpAnswer):
    """A backend's own count; an estimate where it turns out to have none."""

    __slots__ = ("_estimate",)

    def __init__(
        self, exchange: Exchange, make_writer: Callable[[], AnthropicWriter], estimate: Callable[[], int]
    ) -> None:
        super().__init__(exchange, make_writer)
        self._estimate = estimate

    def fail(self, error: ProxyError) -> None:
        if error.status not in _NOT_THERE or self._exchange.started:
            super().fail(error)
            return
        try:
            answer_estimate(self._exchange, self._estimate())
        except ProxyError as own:
            super().fail(own)


def answer_estimate(exchange: Exchange, tokens: int) -> None:
    """Answer with an estimate, which a header says it is."""
    body = msgspec.json.encode({"input_tokens": tokens}) + b"\n"
    exchange.respond(200, b"application/json", body, _ESTIMATED)


def estimate_tokens(request: Generation) -> int:
    """Tokens of a prompt, by the bytes of its texts. At least one."""
    size = sum(_message_bytes(message) for message in request.messages)
    size += sum(len(_encode(tool)) for tool in request.tools)
    images = sum(len(message.images) for message in request.messages)
    turns = len(request.messages) * _TOKENS_PER_TURN
    return max(1, -(-size // _BYTES_PER_TOKEN) + turns + images * _TOKENS_PER_IMAGE)


def _message_bytes(message: Message) -> int:
    uses = sum(len(use.name.encode()) + len(use.arguments.encode()) for use in message.tool_uses)
    return len(message.content.encode()) + len(message.thinking.encode()) + uses


def _encode(tool: Any) -> bytes:
    return msgspec.json.encode(tool)
