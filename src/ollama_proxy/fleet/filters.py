"""Beliefs in logarithms of what is measured, and watches over what is seen of them.

A belief loses certainty with time. Outliers count as three standard deviations; when they keep to one side (Page's
cumulated sums), the device has changed, and the belief loses most of its certainty.
"""

from __future__ import annotations

import math

#: Variances of logarithms: of configured numbers, of one request (to begin with, at least, at most), by second of age.
_PRIOR_VAR = 0.16
NOISE_VAR, _LEAST_NOISE_VAR, _MOST_NOISE_VAR = 0.01, 0.0004, 0.25
_DRIFT_VAR_PER_S = 2e-7
_MOST_VAR = 1.0
#: A restart may mean another driver, another server, another machine.
_RESTART_VAR = 0.01
#: The share of one request in what is believed of the noise, and of other things that are averaged.
NOISE_SHARE = 0.1
_CLIP = 3.0
#: Page's test on standardised residuals: what is allowed each time, when it is an alarm, what an alarm does.
_SLACK, _ALARM = 0.75, 5.0
_ALARM_FACTOR, _ALARM_VAR = 25.0, 0.1
#: Bounds of everything believed or seen: backends report what they like, and e^x must stay a number.
_LEAST, MOST = 1e-6, 1e9
_LEAST_LOG, _MOST_LOG = math.log(_LEAST), math.log(MOST)


class Filter:
    """The belief in one logarithm, and in the noise of what is seen of it."""

    __slots__ = ("mean", "var")

    def __init__(self, value: float, var: float = _PRIOR_VAR) -> None:
        self.mean = math.log(bounded(value))
        self.var = var

    def age(self, seconds: float) -> None:
        """Time has passed."""
        self.var = min(_MOST_VAR, self.var + _DRIFT_VAR_PER_S * seconds)

    def move(self, innovation: float, gain: float, weight: float) -> None:
        """Take in an innovation that depends on this by `weight`."""
        self.mean = min(max(self.mean + gain * innovation, _LEAST_LOG), _MOST_LOG)
        self.var = max(self.var * (1 - gain * weight), 1e-6)

    def restore(self, mean: float, var: float, age_s: float) -> None:
        """Take up what was believed `age_s` ago."""
        self.mean, self.var = mean, min(_MOST_VAR, var + _RESTART_VAR)
        self.age(age_s)

    def forget(self, share: float) -> None:
        """Less certain than before, by as much as it is to do with what has changed."""
        self.var = min(_MOST_VAR, self.var + share * (self.var * (_ALARM_FACTOR - 1) + _ALARM_VAR))

    @property
    def value(self) -> float:
        """The median of what is believed."""
        return math.exp(self.mean)


class Watch:
    """The noise of one kind of observation, and whether its residuals keep to one side."""

    __slots__ = ("_down", "_up", "noise_var")

    def __init__(self) -> None:
        self.noise_var = NOISE_VAR
        self._up = self._down = 0.0

    def weigh(self, residual: float, belief_var: float) -> tuple[float, float, bool]:
        """The residual to use, its variance, and whether the device has changed."""
        total_var = belief_var + self.noise_var
        deviation = math.sqrt(total_var)
        scaled = residual / deviation
        self._up = max(0.0, self._up + min(scaled, _CLIP) - _SLACK)
        self._down = max(0.0, self._down - max(scaled, -_CLIP) - _SLACK)
        changed = self._up > _ALARM or self._down > _ALARM
        clipped = max(-_CLIP, min(_CLIP, scaled)) * deviation
        if changed:
            self._up = self._down = 0.0
            return residual, total_var, True
        own_var = clipped * clipped - belief_var
        noise_var = self.noise_var + NOISE_SHARE * (own_var - self.noise_var)
        self.noise_var = max(_LEAST_NOISE_VAR, min(_MOST_NOISE_VAR, noise_var))
        return clipped, total_var, False


def bounded(value: float) -> float:
    """The nearest value whose logarithm can be reckoned with."""
    return min(max(value, _LEAST), MOST)
