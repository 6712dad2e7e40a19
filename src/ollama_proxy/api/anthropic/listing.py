"""The union of all backends' models in Anthropic's shape, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from ollama_proxy.api.anthropic.errors import BadRequest
from ollama_proxy.domain.device import FleetView, ModelFacts
from ollama_proxy.domain.names import canonical_model

_DEFAULT_LIMIT, _MOST = 20, 1000
_UNKNOWN = "1970-01-01T00:00:00Z"


def list_models(view: FleetView) -> list[dict[str, Any]]:
    """One entry a model over all serving backends, the newest first."""
    found: dict[str, dict[str, Any]] = {}
    for name, facts in _all_models(view):
        entry = _entry(facts)
        known = found.get(name)
        if known is None or entry["created_at"] > known["created_at"]:
            found[name] = entry
    by_name = sorted(found.values(), key=lambda entry: str(entry["id"]))
    return sorted(by_name, key=lambda entry: str(entry["created_at"]), reverse=True)


def _all_models(view: FleetView) -> Iterator[tuple[str, ModelFacts]]:
    for backend in view.backends:
        if backend.health.serves:
            yield from (backend.models or {}).items()


def find_model(view: FleetView, name: str) -> dict[str, Any] | None:
    """The entry of one model under the name that the client has for it."""
    wanted = canonical_model(name)
    entry = next((one for one in list_models(view) if canonical_model(one["id"]) == wanted), None)
    return None if entry is None else {**entry, "id": name}


def write_page(entries: list[dict[str, Any]], query: bytes) -> dict[str, Any]:
    """The page that a query asks for by `limit`, `after_id` and `before_id`. Raises `BadRequest`."""
    asked = dict(parse_qsl(query.decode("utf-8", "replace")))
    limit = _read_limit(asked.get("limit", ""))
    after, before = asked.get("after_id", ""), asked.get("before_id", "")
    if after and before:
        raise BadRequest("after_id and before_id cannot both be given")
    if before:
        rest = entries[: _place(entries, before, "before_id")]
        page, more = rest[-limit:], len(rest) > limit
    else:
        rest = entries[_place(entries, after, "after_id") + 1 :] if after else entries
        page, more = rest[:limit], len(rest) > limit
    return {
        "data": page,
        "has_more": more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _read_limit(text: str) -> int:
    if not text:
        return _DEFAULT_LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= _MOST:
        raise BadRequest(f"limit: must be a number from 1 to {_MOST}")
    return int(text)


def _place(entries: list[dict[str, Any]], ident: str, name: str) -> int:
    wanted = canonical_model(ident)
    found = next((place for place, one in enumerate(entries) if canonical_model(one["id"]) == wanted), None)
    if found is None:
        raise BadRequest(f"{name}: there is no model {ident[:100]!r}")
    return found


def _entry(facts: ModelFacts) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "model",
        "id": facts.name,
        "display_name": facts.name,
        "created_at": _moment(facts.modified_at),
        "lifecycle": "active",
    }
    if facts.context_length:
        entry["max_input_tokens"] = facts.context_length
    return entry


def _moment(modified_at: str) -> str:
    try:
        moment = datetime.fromisoformat(modified_at).astimezone(UTC)
    except (ValueError, OverflowError):
        return _UNKNOWN
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
