"""Members inside of members that the typed form has no room for: parts of messages, and how an answer is formed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ollama_proxy.domain.call import Dialect

_json = msgspec.json.Decoder()
_TEXTS = frozenset(("text", "input_text", "output_text"))
_PICTURES = frozenset(("image_url", "input_image", "image"))
_USUAL_TIERS = (b"null", b'"auto"')
_LIMITS = ("max_tokens", "max_completion_tokens")
#: Of a picture: as finely as the server thinks best.
_USUAL_DETAIL = (None, "auto")


def find_nested(members: Mapping[str, msgspec.Raw]) -> Iterator[str]:
    """Paths of what would be lost, such as `messages.refusal`. Raises `msgspec.DecodeError`."""
    for name in ("messages", "input", "system"):
        value = bytes(members.get(name, b""))
        if value.startswith(b"["):
            yield from _find_in_messages(name, _json.decode(value))
    for name in ("response_format", "text"):
        value = bytes(members.get(name, b""))
        if value.startswith(b"{"):
            yield from _find_in_format(name, _json.decode(value))


def find_changed(dialect: Dialect, members: Mapping[str, msgspec.Raw]) -> Iterator[str]:
    """Paths of what the typed form tells in other words, or leaves out since an answer can go on without it. Raises
    `msgspec.DecodeError`."""
    if bytes(members.get("service_tier", b"null")) not in _USUAL_TIERS:
        yield "service_tier"
    reasoning = bytes(members.get("reasoning", b"null"))
    if reasoning.startswith(b"{"):
        asked = {name for name, value in _json.decode(reasoning).items() if value is not None}
        # In chats it is the word of some servers, and would be told as `reasoning_effort`.
        told = set() if dialect is Dialect.OPENAI else {"effort"}
        yield from sorted(f"reasoning.{name}" for name in asked - told)
    if dialect is Dialect.OPENAI:
        limits = {name: bytes(members.get(name, b"null")) for name in _LIMITS}
        given = [name for name, value in limits.items() if value != b"null"]
        if len(given) > 1 or any(limits[name][:1] in b"0-" for name in given):
            yield given[0]


def _find_in_messages(name: str, items: list[Any]) -> Iterator[str]:
    if name == "system":
        yield from _find_in_parts(name, items)
        return
    for item in items:
        if isinstance(item, dict):
            if item.get("refusal") is not None:
                yield f"{name}.refusal"
            if item.get("role") == "developer":
                yield f"{name}.role: developer"
            if isinstance(item.get("content"), list):
                yield from _find_in_parts(f"{name}.content", item["content"])


def _find_in_parts(path: str, parts: list[Any]) -> Iterator[str]:
    """Texts are joined, and pictures are told behind them."""
    kinds = [part.get("type") for part in parts if isinstance(part, dict)]
    texts = [place for place, kind in enumerate(kinds) if kind in _TEXTS]
    if len(texts) > 1:
        yield f"{path}: several texts"
    if texts and any(kind in _PICTURES for kind in kinds[: texts[0]]):
        yield f"{path}: picture before text"
    for part in parts:
        if isinstance(part, dict) and part.get("type") in _PICTURES:
            inner = part.get("image_url")
            details = [part.get("detail"), inner.get("detail") if isinstance(inner, dict) else None]
            if any(detail not in _USUAL_DETAIL for detail in details):
                yield f"{path}.detail"


def _find_in_format(name: str, asked: dict[str, Any]) -> Iterator[str]:
    """A schema's name means nothing to whoever keeps to the schema."""
    if asked.get("verbosity") not in (None, "medium"):
        yield f"{name}.verbosity"
    form = asked.get("format") if name == "text" else asked
    schema = form.get("json_schema", form) if isinstance(form, dict) else None
    if isinstance(schema, dict):
        yield from (f"{name}.{member}" for member in ("strict", "description") if schema.get(member))
