"""When the garbage collector looks at everything: not in the middle of a thousand streams.

A request that is over leaves nothing to the collector (tests/unit/app/requests/test_dispatch.py), so only its look at
the oldest objects is put off: with many streams open it takes tens of milliseconds, in which no token passes. The young
generations stay automatic and cheap.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

#: Objects made and not freed before the youngest are looked at, and how often of these the next generation is.
_YOUNG, _MIDDLE = 2000, 20
_NEVER = 1_000_000_000
#: Without a request running, everything is looked at this often; with one, only after the longer time.
_IDLE_S, _BUSY_S = 60.0, 600.0


class Garbage:
    """Takes the collector's full rounds over. `begin` when the start is over, then `sweep` about once a second."""

    def __init__(self, collect: Callable[[], object] = gc.collect) -> None:
        self._collect = collect
        self._collected_s = 0.0

    def begin(self, now_s: float) -> None:
        """What was made for the start lives as long as the process: the collector need not look at it again."""
        self._collected_s = now_s
        self._collect()
        gc.freeze()
        gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)

    def sweep(self, now_s: float, *, idle: bool) -> None:
        """Look at everything when it is time."""
        if now_s - self._collected_s >= (_IDLE_S if idle else _BUSY_S):
            self._collected_s = now_s
            self._collect()
