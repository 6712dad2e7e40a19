"""Stores of answers, made from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ollama_proxy.cache.memory import MemoryStore
from ollama_proxy.cache.sqlite import SqliteStore
from ollama_proxy.cache.store import Bounds, Store
from ollama_proxy.config.sections.cache import Cache


def build_memory(cache: Cache, environ: Mapping[str, str]) -> Store:
    """In this process."""
    return MemoryStore(_bounds(cache))


def build_sqlite(cache: Cache, environ: Mapping[str, str]) -> Store:
    """In a file, by default among the user's state."""
    return SqliteStore(Path(cache.path) if cache.path else _default_path(environ), _bounds(cache))


def build_valkey(cache: Cache, environ: Mapping[str, str]) -> Store:
    """In a server. Its client is imported only where it is used."""
    from ollama_proxy.cache.valkey import ValkeyStore  # noqa: PLC0415  # an extra

    return ValkeyStore(
        cache.url,
        _bounds(cache),
        password=environ.get(cache.password_env, "") if cache.password_env else "",
        prefix=cache.prefix,
        timeout_s=cache.timeout_ms / 1000,
    )


def _bounds(cache: Cache) -> Bounds:
    return Bounds(round(cache.max_size_mb * 1e6), cache.ttl_seconds)


def _default_path(environ: Mapping[str, str]) -> Path:
    state = environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "ollama-proxy" / "cache.sqlite"
