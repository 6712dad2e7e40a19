"""The named efficiency modes, and what the power supply makes of `Auto`: settings of the policy, and nothing else."""

from __future__ import annotations

import enum

import msgspec

from ollama_proxy.domain.decision import Policy

#: By mode, the price of a second in watts, and what that means.
MODES: dict[str, tuple[float, str]] = {
    "Performance": (50.0, "a second saved is worth 50 J: the fast devices take most requests"),
    "Balanced": (10.0, "a second saved is worth 10 J"),
    "Efficiency": (4.0, "a second saved is worth 4 J: the frugal devices take most requests"),
    "Quiet": (4.0, "as Efficiency, and without devices that draw more than efficiency.quiet_max_watts"),
    "Auto": (10.0, "by the power supply: 10 J a second on mains, 6, 3 and at last 1 as the battery runs down"),
    "UltraEfficiency": (1.0, "a second saved is worth 1 J: the least energy, with patience"),
}


class Supply(enum.Enum):
    """Where the power comes from, as far as it matters."""

    MAINS = "mains"
    HIGH = "battery above 50 %"
    MIDDLE = "battery between 20 and 50 %"
    LOW = "battery below 20 %"


_PRICES = {Supply.MAINS: 10.0, Supply.HIGH: 6.0, Supply.MIDDLE: 3.0, Supply.LOW: 1.0}
#: The mode whose name comes nearest.
_NEAREST = {
    Supply.MAINS: "Balanced",
    Supply.HIGH: "Balanced",
    Supply.MIDDLE: "Efficiency",
    Supply.LOW: "UltraEfficiency",
}
#: A battery that moves about a border must not move the policy: it has to pass it by so many per cent upwards.
_HYSTERESIS_PERCENT = 3.0


def find_mode(name: str) -> str | None:
    """The mode's own spelling, whatever the case of `name`."""
    wanted = name.strip().lower().replace("_", "").replace("-", "")
    return next((mode for mode in MODES if mode.lower() == wanted), None)


def build_policy(mode: str, base: Policy | None = None, supply: Supply = Supply.MAINS) -> Policy:
    """The policy of a mode; everything else is kept from `base`. `supply` matters to `Auto` only."""
    price_w = _PRICES[supply] if mode == "Auto" else MODES[mode][0]
    return msgspec.structs.replace(base or Policy(), name=mode, lambda_watts=price_w)


def effective_mode(mode: str, supply: Supply, *, quiet: bool) -> str:
    """The mode that `Auto` amounts to now; `quiet` during quiet hours."""
    if quiet and mode in ("Auto", "Balanced"):
        return "Quiet"
    return _NEAREST[supply] if mode == "Auto" else mode


def judge_supply(before: Supply, on_battery: bool | None, percent: float | None) -> Supply:
    """The state of the supply, given the one before. A machine that tells of no battery runs from mains."""
    if not on_battery:
        return Supply.MAINS
    if percent is None:
        return Supply.HIGH
    order = [Supply.LOW, Supply.MIDDLE, Supply.HIGH]
    for level, border in ((Supply.LOW, 20.0), (Supply.MIDDLE, 50.0)):
        was_below = before in order[: order.index(level) + 1]
        if percent < border + (_HYSTERESIS_PERCENT if was_below else 0.0):
            return level
    return Supply.HIGH
