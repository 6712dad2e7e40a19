"""Do predictions come true? By backend: promised chances against limits kept, predicted seconds against found ones.

Older requests count less, by half after some seventy newer ones.
"""

from __future__ import annotations

import math

from ollama_proxy.domain.device import Calibration, Promise

BINS = 10
_KEEP = 0.99


class Judge:
    """The record of one backend."""

    __slots__ = ("_bins", "_e2e_error", "_ttft_error", "_weight")

    def __init__(self) -> None:
        #: By promised chance: weight, sum of chances, sum of limits kept.
        self._bins = [[0.0, 0.0, 0.0] for _ in range(BINS)]
        self._weight = self._ttft_error = self._e2e_error = 0.0

    def keep_promise(self, chance: float, kept: bool) -> None:
        """A request was promised to keep its limit with a chance, and did or did not."""
        found = self._bins[min(BINS - 1, int(chance * BINS))]
        for place, value in enumerate((1.0, chance, float(kept))):
            found[place] = found[place] * _KEEP + value

    def compare(self, ttft_s: float, found_ttft_s: float, e2e_s: float, found_e2e_s: float) -> None:
        """Predicted seconds from the start of an attempt, for the tokens that came, against those found."""
        self._weight = self._weight * _KEEP + 1
        self._ttft_error = self._ttft_error * _KEEP + _log_error(ttft_s, found_ttft_s)
        self._e2e_error = self._e2e_error * _KEEP + _log_error(e2e_s, found_e2e_s)

    def look(self) -> Calibration:
        """What is known by now."""
        weight = self._weight
        promises = [
            Promise(chance / count, kept / count, round(count, 1)) for count, chance, kept in self._bins if count >= 0.5
        ]
        if not weight:
            return Calibration(tuple(promises))
        return Calibration(
            tuple(promises),
            math.exp(self._ttft_error / weight) - 1,
            math.exp(self._e2e_error / weight) - 1,
            round(weight, 1),
        )


def _log_error(predicted_s: float, found_s: float) -> float:
    """|log(found / predicted)|: twice as long and half as long are as wrong as each other."""
    return abs(math.log(max(found_s, 1e-4) / max(predicted_s, 1e-4)))
