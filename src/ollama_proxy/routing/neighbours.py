"""What devices that share a machine's memory do to each other: seconds and joules of a request beside those that run.

Writing tokens is bound by memory, reading prompts is not; so two devices of a pool are taken to slow each other down
while both write. Their logarithms of slowness add up, in the shares of the time for which they write together. A
request pays for two things: it takes longer itself, and so does whoever runs beside it.

The seconds of the neighbour's request are charged at the price that it set itself: they are lost by somebody who did
not choose, and who would have had a say in the decision if both had come at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ollama_proxy.domain.device import Neighbour, Wait

if TYPE_CHECKING:
    from ollama_proxy.routing.prospect import Prospect

#: What a device draws while memory makes it wait, as a share of its draw at work: its clocks and its memory go on, its
#: arithmetic rests. It lies between nothing and all; the middle is at most half of it wrong.
WAITING_SHARE = 0.5


def stand_beside(
    one: Prospect, neighbours: Sequence[Neighbour], wait: Wait | None, prefill_s: float, decode_s: float
) -> tuple[Prospect, float]:
    """A candidate as it is beside its neighbours, and the seconds its decoding takes there; `decode_s` alone."""
    if decode_s <= 0:
        return one, decode_s
    begins_s = one.load_s + prefill_s
    begins_s += wait.mean_s if wait is not None else one.turns_ahead * (begins_s + decode_s)
    stretch, burden_j = reckon_beside(neighbours, begins_s, decode_s)
    if stretch == 1.0 and not burden_j:
        return one, decode_s
    return one.stand_beside(stretch, burden_j), decode_s * stretch


def reckon_beside(neighbours: Sequence[Neighbour], begins_s: float, decode_s: float) -> tuple[float, float]:
    """How many times longer the decoding takes that begins in `begins_s` and takes `decode_s` (above 0) alone; what it
    costs the neighbours, in joules with their seconds priced."""
    slowness = 0.0
    met: list[tuple[float, Neighbour]] = []
    for one in neighbours:
        together_s = _overlap(one, begins_s, begins_s + decode_s)
        together_s += one.busy_share * (decode_s - together_s)
        if together_s > 0:
            slowness += one.slows * together_s
            met.append((together_s, one))
    if not met:
        return 1.0, 0.0
    stretch = math.exp(slowness / decode_s)
    burden_j = 0.0
    for together_s, one in met:
        lost_s = together_s * stretch * (1 - math.exp(-one.slowed))
        burden_j += lost_s * (one.watts * WAITING_SHARE + one.price_watts)
    return stretch, burden_j


def draw_longer(stretch: float) -> float:
    """How many times the joules of decoding grow when it takes `stretch` times as long for others' sake."""
    return 1 + WAITING_SHARE * (stretch - 1)


def _overlap(one: Neighbour, from_s: float, until_s: float) -> float:
    """Seconds for which the neighbour's present work and an interval overlap."""
    return max(0.0, min(until_s, one.until_s) - max(from_s, one.from_s))
