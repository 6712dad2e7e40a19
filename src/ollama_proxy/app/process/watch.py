"""Tells when files have changed, by looking at them now and then: that works in every file system and container."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

_LOOK_EVERY_S = 1.0

Mark = tuple[int, int, int] | None


class Watch:
    """Compares what `files` names now with what they were at the last change that was told."""

    def __init__(self, files: Callable[[], Iterable[Path]]) -> None:
        self._files = files
        self._told = self._pending = self._look()

    async def run(self, changed: Callable[[], None], *, every_s: float = _LOOK_EVERY_S) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(every_s)
            if self.look():
                changed()

    def take(self) -> None:
        """What is there now needs no telling."""
        self._told = self._pending = self._look()

    def look(self) -> bool:
        """Whether there is a change to tell: one that has stood still since the look before.

        Whoever writes a file in several steps is not read half-way, and one that is gone for a moment, while another
        takes its place, has not changed.
        """
        now = self._look()
        settled, self._pending = now == self._pending, now
        if not settled or now == self._told or None in now.values():
            return False
        self._told = now
        return True

    def _look(self) -> dict[Path, Mark]:
        return {path: _mark(path) for path in self._files()}


def _mark(path: Path) -> Mark:
    """What differs when a file was written or exchanged; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
