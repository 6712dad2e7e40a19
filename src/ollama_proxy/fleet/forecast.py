"""When a backend's slots will be free, reckoned anew only when that may have changed: for fleets so large that to ask
everybody at every event would take longer than the events leave time for.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from ollama_proxy.fleet.running import LEAST_LEFT_S, Running, Slot, forecast_slots

#: What was reckoned holds for this share of the time until the first slot is free: it cannot be much too old then.
_HOLDS_FOR = 0.1
_FREE: Slot = (0.0, 0.0)


class Forecast:
    """Of one backend. Times are monotonic seconds and are handed in."""

    __slots__ = ("_from_s", "_slots", "_until_s")

    def __init__(self) -> None:
        #: When each slot will be free, -inf for one that is; and from when until when that is believed.
        self._slots: list[Slot] = []
        self._from_s = self._until_s = inf

    def forget(self) -> None:
        """Something has begun or ended there."""
        self._from_s = inf

    def look(self, running: Collection[Running], slots: int, now_s: float) -> list[Slot]:
        """In how many seconds each slot will be free, and the variance of that: a heap that the caller may change."""
        if self._from_s <= now_s < self._until_s:
            # Until its end is seen it has not ended.
            return [(max(LEAST_LEFT_S, at_s - now_s), var_s2) if at_s > -inf else _FREE for at_s, var_s2 in self._slots]
        found = forecast_slots(list(running), slots, now_s)
        self._slots = [(now_s + left_s if left_s else -inf, var_s2) for left_s, var_s2 in found]
        first_s = min([left_s for left_s, _ in found if left_s], default=inf)
        self._from_s, self._until_s = now_s, now_s + _HOLDS_FOR * first_s
        return found
