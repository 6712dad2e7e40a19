"""Heat: every die sits on one chassis, the chassis in the room.

Two nodes in a row, each with a resistance and a time constant (a Foster ladder: the chassis warms the die, the die's
power goes to the chassis at once). Power is constant between changes, so that both temperatures have closed forms,
sums of at most two exponentials, and the moment at which a threshold is crossed is found without stepping.
"""

from __future__ import annotations

import math

from ollama_proxy.lab.simulation.device_model import HostModel, ThermalModel

_NEAR_K = 1e-3  # a crossing is found to the microsecond; this is what the temperature may be off by then
_BISECTIONS = 50


class Curve:
    """A die's temperature from now on: end + slow e^(-t/chassis) + fast e^(-t/die), in degrees Celsius."""

    __slots__ = ("chassis_tau_s", "die_tau_s", "end_c", "fast_k", "slow_k")

    def __init__(
        self, die_c: float, chassis_c: float, chassis_end_c: float, rise_k: float, taus_s: tuple[float, float]
    ):
        self.die_tau_s, self.chassis_tau_s = taus_s
        self.end_c = chassis_end_c + rise_k
        lag = self.chassis_tau_s / (self.chassis_tau_s - self.die_tau_s)
        self.slow_k = (chassis_c - chassis_end_c) * lag
        self.fast_k = die_c - self.end_c - self.slow_k

    def at(self, after_s: float) -> float:
        """Degrees Celsius `after_s` seconds from now."""
        slow = self.slow_k * math.exp(-after_s / self.chassis_tau_s)
        return self.end_c + slow + self.fast_k * math.exp(-after_s / self.die_tau_s)

    def turn_s(self) -> float:
        """When the temperature turns; 0 if it only rises or only falls."""
        slow, fast = self.slow_k / self.chassis_tau_s, self.fast_k / self.die_tau_s
        if fast == 0 or not 0 < -slow / fast < 1:
            return 0.0
        return -math.log(-slow / fast) / (1 / self.die_tau_s - 1 / self.chassis_tau_s)

    def crossing_s(self, level_c: float, horizon_s: float) -> float:
        """The first time within the horizon at which the level is reached; inf if it is not."""
        horizon_s = min(horizon_s, 40 * self.chassis_tau_s)
        turn_s = min(self.turn_s(), horizon_s)
        before = self.at(0.0) < level_c
        for from_s, to_s in ((0.0, turn_s), (turn_s, horizon_s)):
            if (self.at(to_s) < level_c) != before:
                return self._bisect(level_c, from_s, to_s, before)
        return math.inf

    def _bisect(self, level_c: float, from_s: float, to_s: float, before: bool) -> float:
        for _ in range(_BISECTIONS):
            middle_s = (from_s + to_s) / 2
            if (self.at(middle_s) < level_c) == before:
                from_s = middle_s
            else:
                to_s = middle_s
        return to_s


class Die:
    """One die: its temperature and whether it is throttled."""

    __slots__ = ("model", "temperature_c", "throttled", "watts")

    def __init__(self, model: ThermalModel, temperature_c: float) -> None:
        self.model = model
        self.temperature_c = temperature_c
        self.throttled = False
        self.watts = 0.0

    @property
    def speed(self) -> float:
        """Share of full speed that the throttle leaves."""
        return self.model.throttled_speed if self.throttled else 1.0

    def check_throttle(self) -> None:
        """Throttle or release by the temperature as it is."""
        if self.temperature_c >= self.model.throttle_c - _NEAR_K:
            self.throttled = True
        elif self.temperature_c <= self.model.resume_c + _NEAR_K:
            self.throttled = False


class Heat:
    """All dies and the chassis. Set `watts` of dies and machine, ask for the next crossing, pass the time."""

    __slots__ = ("_host", "chassis_c", "dies", "watts")

    def __init__(self, host: HostModel, models: list[ThermalModel], dies_w: list[float], watts: float) -> None:
        """Starts in balance with the given draw: that of an idle machine."""
        self._host = host
        self.watts = watts
        self.chassis_c = self._chassis_end_c()
        self.dies = [
            Die(model, self.chassis_c + model.die_k_per_w * w) for model, w in zip(models, dies_w, strict=True)
        ]

    def next_crossing_s(self, horizon_s: float) -> float:
        """Seconds until a die begins or ceases to be throttled; inf if none does within the horizon."""
        return min((self._crossing_s(die, horizon_s) for die in self.dies), default=math.inf)

    def pass_time(self, seconds: float) -> None:
        """Let the temperatures move."""
        for die in self.dies:
            die.temperature_c = self._curve(die).at(seconds)
        end_c = self._chassis_end_c()
        self.chassis_c = end_c + (self.chassis_c - end_c) * math.exp(-seconds / self._host.chassis_tau_s)

    def _crossing_s(self, die: Die, horizon_s: float) -> float:
        """Never beyond the warmer of now and the end: that bound spares the curve in nearly all cases."""
        rise_k = die.model.die_k_per_w * die.watts
        chassis = (self.chassis_c, self._chassis_end_c())
        if die.throttled:
            if min(die.temperature_c, min(chassis) + rise_k) > die.model.resume_c:
                return math.inf
            return self._curve(die).crossing_s(die.model.resume_c, horizon_s)
        if max(die.temperature_c, max(chassis) + rise_k) < die.model.throttle_c:
            return math.inf
        return self._curve(die).crossing_s(die.model.throttle_c, horizon_s)

    def _curve(self, die: Die) -> Curve:
        rise_k = die.model.die_k_per_w * die.watts
        taus_s = (die.model.die_tau_s, self._host.chassis_tau_s)
        return Curve(die.temperature_c, self.chassis_c, self._chassis_end_c(), rise_k, taus_s)

    def _chassis_end_c(self) -> float:
        return self._host.ambient_c + self._host.chassis_k_per_w * self.watts
