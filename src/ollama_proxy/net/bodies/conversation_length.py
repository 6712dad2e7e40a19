"""How long a conversation may be that has to be translated: every message of it becomes objects, again and again.

What is passed on as it came is not counted.
"""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE

MOST_MESSAGES = 10_000
#: The shortest message and its comma: a body below cannot hold too many.
_LEAST_BYTES = MOST_MESSAGES * len("{},")


class _Body(msgspec.Struct):
    messages: list[msgspec.Raw] | None = None


_bodies = msgspec.json.Decoder(_Body)


def check_messages(body: bytes) -> None:
    """Raise `ProxyError(INVALID_REQUEST)` when a body's `messages` are too many, before any of them is read.

    What is wrong with a body in any other way is for its reader to say.
    """
    if len(body) < _LEAST_BYTES:
        return
    try:
        found = _bodies.decode(body).messages
    except UNREADABLE:
        return
    check_count(len(found or ()))


def check_count(count: int, name: str = "messages") -> None:
    """Raise `ProxyError(INVALID_REQUEST)` when there are too many; `name` is what the request calls them."""
    if count > MOST_MESSAGES:
        text = f"{name}: at most {MOST_MESSAGES} can be translated for the chosen backend, found {count}"
        raise ProxyError(ErrorKind.INVALID_REQUEST, text)
