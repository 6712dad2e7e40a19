"""How many tokens a prompt may have, for servers that do not count them."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.domain.call import Generation, Message

#: Of English text in UTF-8, with the tokenizers of common models.
_BYTES_PER_TOKEN = 4
#: What a chat template puts around a turn.
_TOKENS_PER_TURN = 4
#: About what a picture of common size comes to.
_TOKENS_PER_IMAGE = 1000


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
