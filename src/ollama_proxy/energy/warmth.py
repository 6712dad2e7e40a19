"""When a device will be throttled, by what its sensors show: a filter of temperature and slope. The clock is handed in.

Evidence goes before temperature: a kernel or driver that tells whether speed is cut is believed, however hot it is.
"""

from __future__ import annotations

import math

#: Shares of a new reading's surprise in what is believed of the temperature, and of its slope.
_LEVEL_SHARE, _SLOPE_SHARE = 0.5, 0.2
#: Degrees a second that are noise, and seconds after which a reading says nothing of the slope.
_LEAST_SLOPE, _LONGEST_GAP_S = 0.02, 30.0
#: Looks in a row that find speed cut before it counts, and seconds without one until it no more does.
_LEAST_CUTS, _CLEAR_S = 2, 10.0
#: Where only the temperature tells: degrees below the threshold at which throttling has ended.
_HYSTERESIS_C = 3.0


class Warmth:
    """One class of device on this machine."""

    def __init__(self) -> None:
        self._level_c: float | None = None
        self._slope = 0.0
        self._read_s = 0.0
        self._cuts = 0
        self._cut_s = 0.0
        self.throttling = False

    def take(self, celsius: float | None, throttling: bool | None, threshold_c: float | None, now_s: float) -> None:
        """A reading; `throttling` is evidence, None where nobody tells."""
        if celsius is not None:
            self._filter(celsius, now_s)
        else:
            self._level_c = None
        if throttling is not None:
            self._weigh(throttling, now_s)
        elif self._level_c is None or threshold_c is None:
            self.throttling = False
        else:
            self.throttling = self._level_c >= threshold_c - (_HYSTERESIS_C if self.throttling else 0.0)

    def _weigh(self, cut: bool, now_s: float) -> None:
        self._cuts = self._cuts + 1 if cut else 0
        if cut:
            self._cut_s = now_s
        self.throttling = self._cuts >= _LEAST_CUTS or (self.throttling and now_s - self._cut_s < _CLEAR_S)

    def _filter(self, celsius: float, now_s: float) -> None:
        gap_s, self._read_s = now_s - self._read_s, now_s
        if self._level_c is None or not 0 < gap_s <= _LONGEST_GAP_S:
            self._level_c, self._slope = celsius, 0.0
            return
        expected_c = self._level_c + self._slope * gap_s
        surprise_c = celsius - expected_c
        self._level_c = expected_c + _LEVEL_SHARE * surprise_c
        self._slope += _SLOPE_SHARE * surprise_c / gap_s

    def throttles_in_s(self, threshold_c: float | None) -> float:
        """Seconds until it is throttled if it goes on so: 0 if it is, infinite if it does not get hotter."""
        if self.throttling:
            return 0.0
        if self._level_c is None or threshold_c is None or self._slope < _LEAST_SLOPE or self._level_c >= threshold_c:
            # Hotter than that and not throttled: the threshold is another one.
            return math.inf
        return (threshold_c - self._level_c) / self._slope
