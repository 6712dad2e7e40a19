"""Memory of a device: whether a model has room beside those that are there, and what it costs to make some.

Known where the configuration tells how much there is (`memory_gb`). Devices that share theirs (`memory_pool`) see what
the others hold as taken: no server unloads another one's models.
"""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.decision import Limit, Rejection
from ollama_proxy.domain.device import BackendView
from ollama_proxy.routing.speeds import reckon_load

_GB = 1e9


class Room(msgspec.Struct, frozen=True, gc=False):
    """What it takes to load a model: those that have to go, the joules of loading them again, and why it cannot be."""

    evicted: tuple[str, ...] = ()
    joules: float = 0.0
    rejection: Rejection | None = None


_ENOUGH = Room()


def make_room(view: BackendView, model: str, size_bytes: int) -> Room:
    """For a model, by its name there, that is not in memory."""
    spec = view.spec
    if not spec.memory_gb or not size_bytes:
        return _ENOUGH
    held = measure_residents(view)
    free = spec.memory_gb * _GB - view.beside_bytes - sum(held.values())
    evicted, joules = [], 0.0
    # The largest first, so that few go; by name among equals.
    for name in sorted(held, key=lambda one: (-held[one], one)):
        if size_bytes <= free:
            break
        free += held[name]
        evicted.append(name)
        joules += reckon_load(view, name, held[name])[1]
    if size_bytes > free:
        told = (
            f"needs {size_bytes / _GB:.1f} GB; others hold {view.beside_bytes / _GB:.1f} of the {spec.memory_gb:g} GB"
        )
        return Room(rejection=Rejection(spec.id, Limit.MEMORY_NOW, told))
    return Room(tuple(evicted), joules)


def measure_residents(view: BackendView) -> dict[str, int]:
    """Sizes of the models in memory: as the server tells, else of the file."""
    found = {}
    for name in view.loaded:
        facts = (view.models or {}).get(name)
        found[name] = view.resident_bytes.get(name) or (facts.size_bytes if facts is not None else 0)
    return found
