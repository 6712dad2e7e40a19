"""Answers of a shared or lasting store that are held in this process too, so that most of them are found at once.

The store behind stays the truth. It counts its changes: purges, and answers put in another's place. A second after this
count was last read it is read again, beside the request, and where it has moved nothing is held any more; what has not
been heard of for longer is asked for behind. So a purge through another proxy holds here after `LONGEST_S` at most, and
what went for want of room, or was made anew there, after `HELD_S`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from ollama_proxy.cache.store import OVERHEAD_BYTES, Bounds, FarStore, Found, Holdings, Item, Which
from ollama_proxy.net.task import spawn

#: How old the count of changes gets before it is read again.
_READ_AFTER_S = 1.0
#: A purge by another proxy is unknown here for so long at most.
LONGEST_S = 2.0
#: No answer is held longer without having been read from the store behind.
HELD_S = 30.0


class _Held:
    __slots__ = ("data", "until_s")

    def __init__(self, data: bytes, until_s: float) -> None:
        self.data = data
        self.until_s = until_s


class NearStore:
    """A store behind, and of its answers those that were kept or found here last."""

    def __init__(
        self,
        far: FarStore,
        bounds: Bounds,
        unix_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bounds` are of what is held here; with none, all is asked for behind."""
        self._far = far
        self._bounds = bounds
        self._unix_clock = unix_clock
        self._clock = clock
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._size_bytes = 0
        self._times: dict[bytes, int] = {}
        #: The count of changes, when it was asked for, and how often what is held has been let go of since the start.
        self._changes: int | None = None
        self._read_s = float("-inf")
        self._clearings = 0
        self._is_reading = False

    @property
    def secret(self) -> bytes | None:
        return self._far.secret

    async def open(self) -> None:
        await self._far.open()
        await self._read_changes()

    def find(self, key: bytes) -> bytes | Awaitable[bytes | None] | None:
        now_s = self._clock()
        unknown_s = now_s - self._read_s
        if unknown_s >= _READ_AFTER_S and not self._is_reading:
            spawn(self._read_changes(), "look whether kept answers have changed")
        held = self._held.get(key)
        if held is not None and unknown_s < LONGEST_S and now_s < held.until_s:
            self._held.move_to_end(key)
            self._times[key] = self._times.get(key, 0) + 1
            return held.data
        asked = self._far.fetch(key)
        return None if asked is None else self._fetch(key, asked)

    async def _fetch(self, key: bytes, asked: Awaitable[Found | None]) -> bytes | None:
        clearings = self._clearings
        found = await asked
        if found is None:
            self._drop(key)
            return None
        # What was read before a purge that has become known meanwhile is not held.
        if clearings == self._clearings:
            self._hold(key, found.data, found.left_s)
        return found.data

    def keep(self, item: Item) -> None:
        self._hold(item.key, item.data, item.made_unix_s + self._bounds.ttl_s - self._unix_clock())
        self._far.keep(item)

    async def purge(self, which: Which) -> int:
        self._clear()
        try:
            return await self._far.purge(which)
        finally:
            # What was read meanwhile may be one of them.
            self._clear()

    async def measure(self) -> Holdings:
        return msgspec.structs.replace(await self._far.measure(), near_bytes=self._size_bytes)

    def relieve(self) -> None:
        half = self._size_bytes // 2
        while self._size_bytes > half:
            self._drop(next(iter(self._held)))
        self._far.relieve()

    async def close(self) -> None:
        self._clear()
        await self._far.close()

    # -- what is held -----------------------------------------------------------------

    def _hold(self, key: bytes, data: bytes, left_s: float) -> None:
        self._drop(key)
        size_bytes = len(data) + OVERHEAD_BYTES
        if left_s <= 0 or not self._bounds.has_room(size_bytes):
            return
        self._held[key] = _Held(data, self._clock() + min(left_s, HELD_S))
        self._size_bytes += size_bytes
        while self._size_bytes > self._bounds.max_bytes:
            self._drop(next(iter(self._held)))

    def _drop(self, key: bytes) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._size_bytes -= len(held.data) + OVERHEAD_BYTES

    def _clear(self) -> None:
        self._held.clear()
        self._size_bytes = 0
        self._clearings += 1

    async def _read_changes(self) -> None:
        self._is_reading = True
        times, self._times = self._times, {}
        asked_s = self._clock()
        try:
            changes = await self._far.count_changes(times)
        finally:
            self._is_reading = False
        if changes is None:
            return
        if changes != self._changes:
            self._clear()
        self._changes, self._read_s = changes, asked_s
