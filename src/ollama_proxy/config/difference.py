"""How two configurations differ: the keys, never their values, for a log that may be read by anybody."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ollama_proxy.config.schema import Backend, Config

#: What is built once and held for the life of the process, by the beginning of its path.
FIXED = (
    "cache",
    "embedded",
    "energy.ledger",
    "energy.ledger_path",
    "energy.retention_days",
    "learning",
    "meters",
    "pipelines",
    "process.control_socket",
    "responses",
    "routing.record_file",
    "server.auth.audit_file",
    "thermal",
    "vectors.folder",
    "vectors.memory_mb",
)


def find_changes(old: Config, new: Config) -> list[str]:
    """Paths of the keys that differ, such as `routing.policy`.

    Backends go by their ids: `backends[gpu].slots`, `backends[gpu] added` or `removed`, `backends reordered`.
    """
    return list(_find(old, new, ""))


def find_fixed(changes: Sequence[str]) -> list[str]:
    """Those of the changes that only a restart can bring about."""
    return [one for one in changes if any(one == path or one.startswith((path + ".", path + "[")) for path in FIXED)]


def _find(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if path == "backends":
        yield from _find_in_backends(old, new)
    elif isinstance(old, msgspec.Struct) and type(old) is type(new):
        for name in old.__struct_fields__:
            yield from _find(getattr(old, name), getattr(new, name), f"{path}.{name}" if path else name)
    else:
        yield path


def _find_in_backends(old: Sequence[Backend], new: Sequence[Backend]) -> Iterator[str]:
    before, after = {one.id: one for one in old}, {one.id: one for one in new}
    for name, entry in after.items():
        if name in before:
            yield from _find(before[name], entry, f"backends[{name}]")
        else:
            yield f"backends[{name}] added"
    yield from (f"backends[{name}] removed" for name in before if name not in after)
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield "backends reordered"
