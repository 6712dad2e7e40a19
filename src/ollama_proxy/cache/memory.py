"""Answers in this process's memory, until it ends."""

from __future__ import annotations

import heapq
import secrets
import time
from collections.abc import Callable

from ollama_proxy.cache.store import Bounds, Holdings, Item, Which, rank

#: The heap is made anew when answers that are gone have left so many places a place in use.
_MOST_STALE = 4
_LEAST_PLACES = 64


class _Kept:
    """An answer, how often it was kept or found, and its place in the order of going."""

    __slots__ = ("item", "rank", "times")

    def __init__(self, item: Item, floor: float) -> None:
        self.item = item
        self.times = 1
        self.rank = rank(item.worth_j, item.size_bytes, 1, floor)


class MemoryStore:
    """A dictionary with a heap beside it. Ranks only rise, so whoever comes up with an old one is placed anew then."""

    def __init__(self, bounds: Bounds, unix_clock: Callable[[], float] = time.time) -> None:
        """`unix_clock` tells who is too old."""
        self._bounds = bounds
        self._unix_clock = unix_clock
        self._secret = secrets.token_bytes(32)
        self._kept: dict[bytes, _Kept] = {}
        self._heap: list[tuple[float, bytes]] = []
        self._size_bytes = 0
        self._floor = 0.0
        self._evicted = 0

    @property
    def secret(self) -> bytes:
        return self._secret

    async def open(self) -> None:
        """There is nothing to open."""

    def find(self, key: bytes) -> bytes | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        item = kept.item
        if self._is_old(item):
            self._drop(key)
            return None
        kept.times += 1
        kept.rank = rank(item.worth_j, item.size_bytes, kept.times, self._floor)
        return item.data

    def keep(self, item: Item) -> None:
        self._drop(item.key)
        if not self._bounds.takes(item) or self._is_old(item):
            return
        kept = self._kept[item.key] = _Kept(item, self._floor)
        self._size_bytes += item.size_bytes
        self._place(item.key, kept)
        self._drop_old()
        while self._size_bytes > self._bounds.max_bytes:
            self._evict()

    async def purge(self, which: Which) -> int:
        gone = [
            key
            for key, kept in self._kept.items()
            if which.takes(kept.item.model, kept.item.digest, kept.item.owner, kept.item.made_unix_s)
        ]
        for key in gone:
            self._drop(key)
        return len(gone)

    async def measure(self) -> Holdings:
        self._drop_old()
        return Holdings(len(self._kept), self._size_bytes, self._evicted)

    def relieve(self) -> None:
        """Let half of it go, those first that would go first anyway."""
        half = self._size_bytes // 2
        while self._size_bytes > half:
            self._evict()

    async def close(self) -> None:
        self._kept.clear()
        self._heap.clear()
        self._size_bytes = 0

    def _is_old(self, item: Item) -> bool:
        return self._unix_clock() - item.made_unix_s >= self._bounds.ttl_s

    def _drop_old(self) -> None:
        """Those that are too old are in front, for they came in the order in which they were made."""
        while self._kept:
            key, kept = next(iter(self._kept.items()))
            if not self._is_old(kept.item):
                break
            self._drop(key)

    def _drop(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size_bytes -= kept.item.size_bytes

    def _place(self, key: bytes, kept: _Kept) -> None:
        heapq.heappush(self._heap, (kept.rank, key))
        if len(self._heap) > max(_LEAST_PLACES, _MOST_STALE * len(self._kept)):
            self._heap = [(one.rank, key) for key, one in self._kept.items()]
            heapq.heapify(self._heap)

    def _evict(self) -> None:
        while True:
            found, key = heapq.heappop(self._heap)
            kept = self._kept.get(key)
            if kept is not None and kept.rank <= found:
                break
            if kept is not None:
                heapq.heappush(self._heap, (kept.rank, key))
        self._drop(key)
        self._evicted += 1
        self._floor = max(self._floor, kept.rank)
