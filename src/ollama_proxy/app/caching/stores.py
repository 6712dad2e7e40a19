"""The cache and its stores, made from the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from ollama_proxy.app.caching.answer_cache import AnswerCache
from ollama_proxy.app.caching.books import CacheBooks
from ollama_proxy.app.requests.dispatch import Dispatcher
from ollama_proxy.app.upstreams.registry import STORES, load_kind
from ollama_proxy.cache.memory import MemoryStore
from ollama_proxy.cache.near import NearStore
from ollama_proxy.cache.store import Bounds, FarStore, Store
from ollama_proxy.config.sections.cache import Cache
from ollama_proxy.domain.vectors import Embedder
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.observability.metrics import Metrics

#: Of all answers' bytes, for those that are held in this process beside a store outside of it.
_LARGEST_NEAR_SHARE = 0.125


def build_memory(cache: Cache, environ: Mapping[str, str]) -> Store:
    """In this process."""
    return MemoryStore(Bounds(round(cache.max_size_mb * 1e6), cache.ttl_seconds))


def build_sqlite(cache: Cache, environ: Mapping[str, str]) -> Store:
    """In a file, by default among the user's state. Who keeps answers elsewhere does without the module."""
    from ollama_proxy.cache.sqlite import SqliteStore  # noqa: PLC0415  # as above

    path = Path(cache.path) if cache.path else _default_path(environ)
    return _hold_near(cache, lambda bounds: SqliteStore(path, bounds))


def build_valkey(cache: Cache, environ: Mapping[str, str]) -> Store:
    """In a server. Its client is imported only where it is used."""
    from ollama_proxy.cache.valkey import ValkeyStore  # noqa: PLC0415  # an extra

    def make(bounds: Bounds) -> FarStore:
        return ValkeyStore(
            cache.url,
            bounds,
            password=environ.get(cache.password_env, "") if cache.password_env else "",
            prefix=cache.prefix,
            timeout_s=cache.timeout_ms / 1000,
        )

    return _hold_near(cache, make)


def _hold_near(cache: Cache, make: Callable[[Bounds], FarStore]) -> Store:
    """A store outside of this process with what is held here in front of it, both within the one bound."""
    near_mb = min(cache.near_mb, cache.max_size_mb * _LARGEST_NEAR_SHARE)
    far = make(Bounds(round((cache.max_size_mb - near_mb) * 1e6), cache.ttl_seconds))
    return NearStore(far, Bounds(round(near_mb * 1e6), cache.ttl_seconds))


def _default_path(environ: Mapping[str, str]) -> Path:
    state = environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "ollama-proxy" / "cache.sqlite"


def build_cache(
    settings: Cache,
    dispatcher: Dispatcher,
    record: Callable[[LedgerRow], None],
    metrics: Metrics,
    embedder: Callable[[], Embedder],
) -> AnswerCache | None:
    """As configured, None for none; `record` takes rows of the ledger, `embedder` makes vectors."""
    if not settings.enabled:
        return None
    store: Store = load_kind(STORES, settings.type)(settings, os.environ)
    books = CacheBooks(dispatcher.books, dispatcher.decisions, record)
    metrics.add(books)
    meaning = None
    if settings.semantic.enabled:
        from ollama_proxy.app.caching.meaning import MeaningCache  # noqa: PLC0415  # it takes numpy

        meaning = MeaningCache(settings.semantic, embedder)
    return AnswerCache(store, settings, dispatcher, books, meaning)
