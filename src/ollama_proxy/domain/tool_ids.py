"""Ids for the calls of tools in a chat's history, for servers that insist on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from .call import Message, ToolUse


def with_ids(messages: Sequence[Message]) -> Iterator[Message]:
    """The same turns with an id on every call of a tool and on its result.

    Ollama's clients need not send any; a result without one belongs to the first call of that name still open, or to
    the first at all.
    """
    made = 0
    pending: list[ToolUse] = []
    for message in messages:
        if message.tool_uses:
            uses = []
            for use in message.tool_uses:
                made += 1
                uses.append(use if use.id else msgspec.structs.replace(use, id=f"call_{made}"))
            pending = list(uses)
            yield msgspec.structs.replace(message, tool_uses=tuple(uses))
        elif message.role == "tool":
            use_of = _find_use(message, pending)
            if use_of is not None:
                pending.remove(use_of)
            ident = message.tool_call_id or (use_of.id if use_of else "")
            yield message if ident == message.tool_call_id else msgspec.structs.replace(message, tool_call_id=ident)
        else:
            yield message


def _find_use(result: Message, pending: Sequence[ToolUse]) -> ToolUse | None:
    if result.tool_call_id:
        return next((use for use in pending if use.id == result.tool_call_id), None)
    named = (use for use in pending if use.name == result.tool_name)
    return next(named, pending[0] if pending else None)
