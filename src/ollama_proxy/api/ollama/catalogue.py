"""The union of all backends' models in Ollama's shapes: tags, ps, show, version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ollama_proxy.api.ollama.writer import encode
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendView, FleetView, ModelFacts
from ollama_proxy.domain.names import canonical_model

#: Told when no backend has a version: the level of the API that is spoken here.
_OWN_VERSION = "0.24.0"
#: Clients such as Copilot refuse servers that say less.
_LEAST_VERSION = (0, 6, 4)
#: The age of a model whose server does not tell it.
_NEVER = "1970-01-01T00:00:00Z"


def serving(view: FleetView) -> Iterable[BackendView]:
    """The backends that requests may be sent to."""
    return (backend for backend in view.backends if backend.health.serves)


def list_models(view: FleetView) -> bytes:
    """`/api/tags`: one entry a model name, newest first; of backends that differ, the first of the configuration's.

    Where the same model is there twice, the younger date is told.
    """
    found: dict[str, dict[str, Any]] = {}
    for backend in serving(view):
        for name, facts in (backend.models or {}).items():
            entry = _entry(backend, facts)
            known = found.setdefault(name, entry)
            if known is not entry and known.get("digest") == entry.get("digest"):
                known["modified_at"] = max(known.get("modified_at", ""), entry.get("modified_at", ""), key=_unix_s)
    # As Ollama sorts them: by whole seconds.
    ordered = sorted(found.values(), key=lambda entry: int(_unix_s(entry.get("modified_at", ""))), reverse=True)
    return encode({"models": ordered})


def _unix_s(time: object) -> float:
    """Seconds of a time as servers write it; one that is not there or no time is older than all others."""
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _entry(backend: BackendView, facts: ModelFacts) -> dict[str, Any]:
    """The backend's own entry, or one made up from what is known."""
    if facts.entry and backend.spec.kind == "ollama":
        return dict(facts.entry)
    name = facts.name if ":" in facts.name.rsplit("/", 1)[-1] else facts.name + ":latest"
    return {
        "name": name,
        "model": name,
        "modified_at": facts.modified_at or _NEVER,
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
    """`/api/ps`: one entry a model. Of several, the longest stay, the most memory of a device, the smallest context."""
    found: dict[str, dict[str, Any]] = {}
    for backend in serving(view):
        for entry in backend.loaded_entries:
            name = canonical_model(str(entry.get("model") or entry.get("name") or ""))
            if name in found:
                _merge_loaded(found[name], entry)
            else:
                found[name] = dict(entry)
    ordered = sorted(found.values(), key=lambda entry: int(_unix_s(entry.get("expires_at", ""))), reverse=True)
    return encode({"models": ordered})


def _merge_loaded(known: dict[str, Any], entry: Mapping[str, Any]) -> None:
    for field, choose in (("size_vram", max), ("context_length", min)):
        values = [one for one in (known.get(field), entry.get(field)) if isinstance(one, int)]
        if values:
            known[field] = choose(values)
    if _unix_s(entry.get("expires_at")) > _unix_s(known.get("expires_at")):
        known["expires_at"] = entry["expires_at"]


def show_model(view: FleetView, model: str) -> bytes | None:
    """`/api/show` for a model that only servers without that route hold; None when one with it does, or nobody."""
    name = canonical_model(model)
    holder: ModelFacts | None = None
    calls_tools = False
    for backend in serving(view):
        facts = (backend.models or {}).get(name)
        if facts is None:
            continue
        if backend.spec.kind == "ollama":
            return None
        holder = holder or facts
        calls_tools = calls_tools or Need.TOOLS in backend.capabilities
    if holder is None:
        return None
    info: dict[str, Any] = {"general.architecture": "unknown"}
    if holder.context_length:
        info["unknown.context_length"] = holder.context_length
    return encode(
        {
            "details": _details(),
            "model_info": info,
            "capabilities": ["completion", "tools"] if calls_tools else ["completion"],
            "modified_at": holder.modified_at or _NEVER,
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
