"""What devices on one package take from each other: memory bandwidth and the package's power.

Both rules are rough on purpose. Memory: all that decode from the pool slow down by available / demanded. Power: the
processor gives way first, then the integrated GPU, then the NPU, each down to a fifth of its speed; only then all of
them. Speed and power go down together; a real chip, whose voltage falls too, saves a little more than that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ollama_proxy.lab.simulation.device_model import HostModel

#: Who gives way first.
GIVE_WAY = {"cpu": 0, "igpu": 1, "npu": 2}

_LEAST_SPEED = 0.2
_NEAR_W = 1e-6  # coarse enough that the time left of a burst never falls below the clock's resolution


def share_memory(demanded_gb_s: float, available_gb_s: float) -> float:
    """Speed of everybody who decodes from a pool, 1 while it is enough."""
    return 1.0 if demanded_gb_s <= available_gb_s else available_gb_s / demanded_gb_s


def draw_of_waiting(speed: float, waiting_power_share: float) -> float:
    """Share of its power that a device draws while memory holds it at `speed`: all for the part that it works."""
    return speed + (1 - speed) * waiting_power_share


def limit_speeds(watts: Sequence[float], budget_w: float) -> list[float]:
    """Speeds that bring the dynamic draw of devices down to the budget; those who give way first stand first."""
    excess_w = sum(watts) - budget_w
    speeds = [1.0] * len(watts)
    for index, draw_w in enumerate(watts):
        if excess_w <= 0:
            return speeds
        if draw_w > 0:
            cut_w = min(excess_w, draw_w * (1 - _LEAST_SPEED))
            speeds[index] = 1 - cut_w / draw_w
            excess_w -= cut_w
    if excess_w > _NEAR_W:
        left_w = sum(draw_w * speed for draw_w, speed in zip(watts, speeds, strict=True))
        speeds = [speed * max(0.0, 1 - excess_w / left_w) for speed in speeds]
    return speeds


class PackageLimiter:
    """The long-term limit with its burst, as RAPL's PL1 and PL2: a running average that must not pass the limit.

    The average A follows the draw P by dA/dt = (P - A) / burst_s. While it is below the sustained limit the package
    may draw the burst limit, then the sustained one. Hence no interval of length T uses more than
    sustained * T + burst_s * (sustained - A at its begin).
    """

    __slots__ = ("_host", "average_w")

    def __init__(self, host: HostModel, idle_w: float) -> None:
        self._host = host
        self.average_w = idle_w

    @property
    def cap_w(self) -> float:
        """What the package may draw now."""
        spent = self.average_w >= self._host.package_sustained_w - _NEAR_W
        return self._host.package_sustained_w if spent else self._host.package_burst_w

    def exhausted_in_s(self, watts: float) -> float:
        """Seconds that the burst lasts at this draw; inf if it need not end."""
        sustained_w = self._host.package_sustained_w
        if watts <= sustained_w + _NEAR_W or self.average_w >= sustained_w - _NEAR_W:
            return math.inf
        return self._host.burst_s * math.log((watts - self.average_w) / (watts - sustained_w))

    def pass_time(self, watts: float, seconds: float) -> None:
        """Let the average follow a draw of `watts` for `seconds`."""
        self.average_w = watts + (self.average_w - watts) * math.exp(-seconds / self._host.burst_s)
