"""Deadlines of many calls behind one timer of the event loop: adding and removing one is a set operation."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Expiring(Protocol):
    """What a deadline belongs to."""

    def expire(self) -> None:
        """The deadline has passed."""


class TimerWheel:
    """Fires up to one tick late, never early."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tick_s: float = 0.01) -> None:
        self._loop = loop
        self._tick_s = tick_s
        self._buckets: dict[int, set[Expiring]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0

    def add(self, delay_s: float, owner: Expiring) -> set[Expiring]:
        """Call `owner.expire()` after so many seconds, unless it discards itself from the returned set before."""
        tick = int((self._loop.time() + delay_s) / self._tick_s) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = set()
            if self._timer is None or tick < self._next:
                self._arm(tick)
        bucket.add(owner)
        return bucket

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = tick
        self._timer = self._loop.call_at(tick * self._tick_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time() / self._tick_s
        for tick in sorted(tick for tick in self._buckets if tick <= now):
            for owner in list(self._buckets.pop(tick)):
                owner.expire()
        # Buckets that emptied themselves are dropped when their time comes: there is one a tick at most.
        if self._buckets and self._timer is None:
            self._arm(min(self._buckets))
