"""The union of all backends' models in Ollama's shapes: tags, ps, show, version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ollama_proxy.domain.device import BackendView, FleetView, ModelFacts
from ollama_proxy.domain.names import canonical_model

#: Told when no backend has a version: the level of the API that is spoken here.
_OWN_VERSION = "0.24.0"
#: Clients such as Copilot refuse servers that say less.
_LEAST_VERSION = (0, 6, 4)


def serving(view: FleetView) -> Iterable[BackendView]:
    """The backends that requests may be sent to."""
    return (backend for backend in view.backends if backend.health.serves)


def list_models(view: FleetView) -> bytes:
    """`/api/tags`: one entry a model name, the newest where backends differ, newest first."""
    found: dict[str, dict[str, Any]] = {}
    for backend in serving(view):
        for name, facts in (backend.models or {}).items():
            entry = _entry(backend, facts)
            known = found.get(name)
            if known is None or _modified(entry) > _modified(known):
                found[name] = entry
    ordered = sorted(found.values(), key=_modified, reverse=True)
    return msgspec.json.encode({"models": ordered})


def _modified(entry: Mapping[str, Any]) -> str:
    """When an entry says it was modified; servers may leave it out."""
    return str(entry.get("modified_at", ""))


def _entry(backend: BackendView, facts: ModelFacts) -> dict[str, Any]:
    """The backend's own entry, or one made up from what is known."""
    if facts.entry:
        return dict(facts.entry)
    name = facts.name if ":" in facts.name.rsplit("/", 1)[-1] else facts.name + ":latest"
    return {
        "name": name,
        "model": name,
        "modified_at": facts.modified_at or "1970-01-01T00:00:00Z",
        "size": facts.size_bytes,
        "digest": facts.digest or made_up_digest(backend, facts),
        "details": _details(),
    }


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": None,
        "parameter_size": "",
        "quantization_level": "",
    }


def made_up_digest(backend: BackendView, facts: ModelFacts) -> str:
    """A stable stand-in for a digest that the server does not tell; the command line needs 64 hex digits."""
    return hashlib.sha256(f"{backend.spec.kind}:{canonical_model(facts.name)}".encode()).hexdigest()


def list_loaded(view: FleetView) -> bytes:
    """`/api/ps`: one entry a model; where several backends have it loaded, the one that keeps it longest."""
    found: dict[str, dict[str, Any]] = {}
    for backend in serving(view):
        for entry in backend.loaded_entries:
            name = canonical_model(str(entry.get("model") or entry.get("name") or ""))
            known = found.get(name)
            if known is None or str(entry.get("expires_at", "")) > str(known.get("expires_at", "")):
                found[name] = dict(entry)
    ordered = sorted(found.values(), key=lambda entry: str(entry.get("expires_at", "")), reverse=True)
    return msgspec.json.encode({"models": ordered})


def show_model(view: FleetView, model: str) -> bytes | None:
    """`/api/show` for a model that only servers without that route hold; None when one with it does, or nobody."""
    name = canonical_model(model)
    holder: ModelFacts | None = None
    for backend in serving(view):
        facts = (backend.models or {}).get(name)
        if facts is not None and backend.spec.kind == "ollama":
            return None
        holder = holder or facts
    if holder is None:
        return None
    info: dict[str, Any] = {"general.architecture": "unknown"}
    if holder.context_length:
        info["unknown.context_length"] = holder.context_length
    return msgspec.json.encode(
        {
            "details": holder.entry.get("details") or _details(),
            "model_info": info,
            "capabilities": ["completion"],
            "modified_at": "1970-01-01T00:00:00Z",
        }
    )


def lowest_version(view: FleetView) -> str:
    """The lowest version among serving Ollama backends: what all of them can do."""
    known = [parsed for backend in serving(view) if (parsed := _parse(backend.version)) is not None]
    if not known:
        return _OWN_VERSION
    return ".".join(map(str, max(min(known), _LEAST_VERSION)))


def _parse(version: str) -> tuple[int, int, int] | None:
    parts = version.removeprefix("v").partition("-")[0].split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        return None
    numbers = (int(parts[0]), int(parts[1]), int(parts[2]))
    return numbers if numbers != (0, 0, 0) else None
