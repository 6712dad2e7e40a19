"""What one configuration builds and the next may replace: made beside what is in force, then put in its place at once.

Whoever is described as before is the same object as before, with its connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ollama_proxy.app.upstreams.backends import build_backend, build_spec
from ollama_proxy.config.schema import Backend as Entry
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.ports import Backend


class Generation(msgspec.Struct, frozen=True):
    """One configuration and its backends, by id in the file's order; `transparent` is looked through, and is none."""

    config: Config
    backends: dict[str, Backend]
    transparent: Entry | None

    @property
    def enabled(self) -> dict[str, Entry]:
        """Entries of the backends."""
        return {one.id: one for one in self.config.backends if one.id in self.backends}


class Succession(msgspec.Struct, frozen=True):
    """How one generation follows another, by id."""

    #: Not there before, or another server under the same id: nothing is known of them.
    joined: frozenset[str]
    #: The same server, described in another way.
    renewed: frozenset[str]
    #: No longer there, or another server now.
    left: frozenset[str]


def build_generation(config: Config, before: Generation | None = None) -> Generation:
    """Build what is not as it was; nothing is connected to or asked yet."""
    backends = {}
    transparent = None
    for entry in config.backends:
        if entry.enabled and entry.transparent:
            transparent = entry
        elif entry.enabled:
            backends[entry.id] = _keep(entry, config, before) or build_backend(entry, config.models.aliases)
    return Generation(config, backends, transparent)


def _keep(entry: Entry, config: Config, before: Generation | None) -> Backend | None:
    backend = before.backends.get(entry.id) if before is not None else None
    if backend is None or before is None:
        return None
    same = before.enabled[entry.id] == entry and backend.spec == build_spec(entry, config.models.aliases)
    return backend if same else None


def compare(before: Generation, after: Generation) -> Succession:
    """Who joins, who is only described anew, who leaves."""
    old, new = before.enabled, after.enabled
    moved = {name for name in old.keys() & new.keys() if _identity(old[name]) != _identity(new[name])}
    rebuilt = {name for name in old.keys() & new.keys() if before.backends[name] is not after.backends[name]}
    return Succession(
        joined=frozenset(new.keys() - old.keys() | moved),
        renewed=frozenset(rebuilt - moved),
        left=frozenset(old.keys() - new.keys() | moved),
    )


def replaced(before: Generation, after: Generation) -> Iterable[Backend]:
    """Backends that no new request goes to: they end with what runs there."""
    return [one for name, one in before.backends.items() if after.backends.get(name) is not one]


def _identity(entry: Entry) -> tuple[Any, ...]:
    """What makes it another server, of which nothing that was learned is true."""
    return entry.type, entry.endpoint, entry.hardware
