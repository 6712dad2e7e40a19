"""The arguments of tool calls, looked at once, where a call is put together: writers paste them as they are."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.net.bodies.unreadable import UNREADABLE

_objects = msgspec.json.Decoder(dict[str, Any])


def read_arguments(text: str | bytes) -> str | None:
    """The JSON text of an object, on one line; None for anything else, which calls nothing.

    A model that runs into its token limit leaves half an object, and small ones write what is none.
    """
    try:
        data = text.encode() if isinstance(text, str) else text
        _objects.decode(data)
        # Between the members only: inside of strings it is escaped.
        if b"\n" in data or b"\r" in data:
            data = msgspec.json.format(data, indent=-1)
        return data.decode()
    except (*UNREADABLE, UnicodeEncodeError):
        return None
