"""Where a request may carry a key: the headers that clients of each dialect send, and what a browser can send."""

from __future__ import annotations

from collections.abc import Sequence

from .http1.fields import Header

#: Headers that hold a client's key, and never go on to a backend.
CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key", b"sec-websocket-protocol", b"cookie"))
#: Set as a note of a head: whose request it is.
CALLER = "caller"
#: A page in a browser can choose nothing of a WebSocket's handshake but this: `new WebSocket(url, ["ollama-proxy",
#: "key.<key>"])`. The server answers with the first of the two.
SUBPROTOCOL = b"ollama-proxy"
_KEY_PROTOCOL = b"key."
_MOST = 4


def read_credentials(fields: Sequence[Header]) -> list[bytes]:
    """The keys that a head offers, in the order of its fields; a few at most."""
    found: list[bytes] = []
    for name, value in fields:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            if scheme.lower() == b"bearer":
                found.append(key.strip())
        elif name in (b"x-api-key", b"api-key"):
            found.append(value.strip())
        elif name == b"sec-websocket-protocol":
            words = [word.strip() for word in value.split(b",")]
            found += [word.removeprefix(_KEY_PROTOCOL) for word in words if word.startswith(_KEY_PROTOCOL)]
    return [key for key in found[:_MOST] if key]


def choose_subprotocol(fields: Sequence[Header]) -> bytes:
    """What to answer a handshake that offers subprotocols; nothing for one that does not offer ours."""
    lists = [value for name, value in fields if name == b"sec-websocket-protocol"]
    offered = {word.strip() for word in b",".join(lists).split(b",")}
    return SUBPROTOCOL if SUBPROTOCOL in offered else b""
