"""What a backend's models are called here: its own names, and those that the configuration gives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ollama_proxy.domain.device import ModelFacts
from ollama_proxy.domain.names import canonical_model


def with_names(models: Mapping[str, ModelFacts], names: Mapping[str, str]) -> Mapping[str, ModelFacts]:
    """The models of a backend, those that are there under another name added under theirs here.

    Both are keyed by canonical name; `names` holds what each is called there. A configured name wins over one that the
    backend happens to have itself.
    """
    if not names:
        return models
    found = dict(models)
    for name, there in names.items():
        facts = models.get(canonical_model(there))
        if facts is not None:
            found[name] = _rename(facts, name, there)
        else:
            found.pop(name, None)
    return found


def read_sizes(entries: Iterable[Mapping[str, object]]) -> dict[str, int]:
    """Bytes in memory of each loaded model, by canonical name, as a server's own entries tell."""
    found = {}
    for entry in entries:
        name, size = entry.get("model") or entry.get("name"), entry.get("size")
        if isinstance(name, str) and isinstance(size, int) and size > 0:
            found[canonical_model(name)] = size
    return found


def _rename(facts: ModelFacts, name: str, there: str) -> ModelFacts:
    entry = facts.entry
    if entry:
        entry = {**entry, **{key: name for key in ("name", "model", "id") if key in entry}}
    return msgspec.structs.replace(facts, name=name.removesuffix(":latest"), there=there, entry=entry)
