"""The union of all backends' models in OpenAI's shape."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ollama_proxy.domain.device import BackendView, FleetView, ModelFacts
from ollama_proxy.domain.names import canonical_model


def list_models(view: FleetView) -> list[dict[str, Any]]:
    """One entry a model name over all serving backends: the newest where they differ, the newest first."""
    found: dict[str, dict[str, Any]] = {}
    for backend in view.backends:
        if not backend.health.serves:
            continue
        for name, facts in (backend.models or {}).items():
            entry = _entry(backend, facts)
            known = found.get(name)
            if known is None or entry["created"] > known["created"]:
                found[name] = entry
    return sorted(found.values(), key=lambda entry: -int(entry["created"]))


def find_model(view: FleetView, name: str) -> dict[str, Any] | None:
    """The entry of one model under the name that the client has for it."""
    wanted = canonical_model(name)
    entry = next((one for one in list_models(view) if canonical_model(one["id"]) == wanted), None)
    return None if entry is None else {**entry, "id": name}


def _entry(backend: BackendView, facts: ModelFacts) -> dict[str, Any]:
    owner = facts.owner or (_namespace(facts.name) if backend.spec.kind == "ollama" else backend.id)
    return {"id": facts.name, "object": "model", "created": _unix_s(facts.modified_at), "owned_by": owner}


def _namespace(name: str) -> str:
    """Whose model it is by its name: `[host/][namespace/]model[:tag]`."""
    parts = name.split("/")
    return parts[-2] if len(parts) > 1 else "library"


def _unix_s(modified_at: str) -> int:
    try:
        return int(datetime.fromisoformat(modified_at).timestamp())
    except (ValueError, OverflowError):
        return 0
