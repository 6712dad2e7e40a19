"""What is learned of how much the devices of a pool slow each other down, and when each of them wrote.

For each ordered pair of a pool's devices there is one number, the logarithm of how many times longer the one takes
while the other writes too. It is a matter of the devices and not of their models: what a device reads of memory in a
second hardly depends on the size of what it reads. Nobody is believed to be slowed before it was seen, nobody is ever
believed to be sped up.
"""

from __future__ import annotations

import math
from collections import deque

#: A neighbour that is not known slows by nothing, give or take a fifth.
_PRIOR_VAR = 0.04
_DRIFT_VAR_PER_S = 2e-7
_RESTART_VAR = 0.0025
#: Nobody is believed to be slowed more than sixteenfold.
_MOST_SLOWNESS = math.log(16)
#: Spells of writing that are remembered of a device: a long answer beside short ones has many neighbours.
_MOST_SPELLS = 256
#: Over about so many seconds the share of time is reckoned that a device writes.
_SHARE_OVER_S = 600.0


class Coupling:
    """How much a neighbour slows a device: the belief in one logarithm."""

    __slots__ = ("mean", "seen_s", "var")

    def __init__(self, now_s: float = 0.0) -> None:
        self.mean, self.var = 0.0, _PRIOR_VAR
        self.seen_s = now_s

    def age(self, now_s: float) -> None:
        """Time has passed."""
        self.var = min(_PRIOR_VAR, self.var + _DRIFT_VAR_PER_S * max(0.0, now_s - self.seen_s))
        self.seen_s = now_s

    def restore(self, mean: float, var: float, age_s: float) -> None:
        """Take up what was believed `age_s` ago; a restart may mean another driver."""
        self.mean = min(max(mean, 0.0), _MOST_SLOWNESS)
        self.var = min(_PRIOR_VAR, var + _RESTART_VAR + _DRIFT_VAR_PER_S * age_s)

    def forget(self, share: float) -> None:
        """Something has changed while it was seen for a share of the time."""
        self.var = max(self.var, share * share * _PRIOR_VAR)

    def move(self, innovation: float, gain: float, weight: float) -> None:
        """Take in an innovation of the time that depends on this by `weight`."""
        self.mean = min(max(self.mean + gain * innovation, 0.0), _MOST_SLOWNESS)
        self.var = max(self.var * (1 - gain * weight), 1e-6)


class Spells:
    """When a device wrote: its latest spells, and the share of its time."""

    __slots__ = ("_at_s", "_busy_s", "_latest")

    def __init__(self) -> None:
        self._latest: deque[tuple[float, float]] = deque(maxlen=_MOST_SPELLS)
        self._busy_s = self._at_s = 0.0

    def add(self, from_s: float, until_s: float) -> None:
        """It wrote, until now."""
        if self._latest:
            from_s = max(from_s, self._latest[-1][1])
        if until_s <= from_s:
            return
        self._latest.append((from_s, until_s))
        self._busy_s = self._busy_s * math.exp(-(until_s - self._at_s) / _SHARE_OVER_S) + (until_s - from_s)
        self._at_s = until_s

    @property
    def ended_s(self) -> float:
        """When the latest one ended."""
        return self._latest[-1][1] if self._latest else 0.0

    def overlap(self, from_s: float, until_s: float) -> float:
        """For how much of an interval it wrote, what still runs not counted."""
        found_s = 0.0
        for began_s, ended_s in reversed(self._latest):
            if ended_s <= from_s:
                break
            found_s += max(0.0, min(until_s, ended_s) - max(from_s, began_s))
        return found_s

    def share(self, now_s: float) -> float:
        """Share of its time that it wrote, as far as the last minutes tell."""
        return min(1.0, self._busy_s * math.exp(-max(0.0, now_s - self._at_s) / _SHARE_OVER_S) / _SHARE_OVER_S)
