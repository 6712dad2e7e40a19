"""The input items of an answer that was kept, in pages."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from ollama_proxy.api.responses.errors import BadRequest
from ollama_proxy.api.responses.store import StoredResponse
from ollama_proxy.net.bodies.unreadable import UNREADABLE

_MOST, _USUAL = 100, 20
_KINDS = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


def list_items(kept: StoredResponse, query: bytes) -> dict[str, Any]:
    """One page of everything the answer was made from. Raises `BadRequest` for a page that cannot be.

    `query` may hold `limit` (1 to 100), `order` (`asc`, or `desc`: newest first) and `after` (the id of an item).
    """
    asked = dict(parse_qsl(query.decode("latin-1")))
    items = [_read(kept, index, raw) for index, raw in enumerate(kept.history)]
    order = asked.get("order", "desc")
    if order not in ("asc", "desc"):
        raise BadRequest(f"order: expected asc or desc, got {order[:40]!r}", param="order")
    if order == "desc":
        items.reverse()
    if after := asked.get("after"):
        ids = [item["id"] for item in items]
        if after not in ids:
            raise BadRequest(f"after: there is no item {after[:100]!r}", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[: _read_limit(asked.get("limit"))]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > len(page),
    }


def _read_limit(given: str | None) -> int:
    if given is None:
        return _USUAL
    if not (given.isascii() and given.isdigit() and len(given) < 4 and 0 < int(given) <= _MOST):
        raise BadRequest(f"limit: expected a number from 1 to {_MOST}, got {given[:40]!r}", param="limit")
    return int(given)


def _read(kept: StoredResponse, index: int, raw: bytes) -> dict[str, Any]:
    """An item with its type, its content in parts, and an id: its own, or one that is the same every time."""
    try:
        item = msgspec.json.decode(raw)
    except UNREADABLE:
        item = None
    if not isinstance(item, dict):
        item = {"type": "unknown", "content": item}
    kind = item.setdefault("type", "message")
    if kind == "message" and isinstance(item.get("content"), str):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        item["content"] = [{"type": part, "text": item["content"]}]
    if not item.get("id"):
        digest = hashlib.blake2b(f"{kept.id} {index}".encode(), digest_size=24).hexdigest()
        item["id"] = f"{_KINDS.get(str(kind), 'item')}_{digest}"
    return item
