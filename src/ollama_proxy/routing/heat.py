"""Devices that get too hot: the share of a request's work that a throttled device does, and how much longer that takes.

Joules stay what they are: a throttled device draws less for longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_proxy.domain.device import Heat

if TYPE_CHECKING:
    from ollama_proxy.routing.prospect import Prospect


def stand_hot(
    one: Prospect, heat: Heat, wait_s: float, prefill_s: float, decode_s: float
) -> tuple[Prospect, float, float]:
    """A candidate as it is on a device that gets hot, and its seconds of reading and writing there."""
    cool_s = max(0.0, heat.throttles_in_s - wait_s - one.load_s)
    reading = stretch(prefill_s, cool_s, heat.slowdown)
    writing = stretch(decode_s, max(0.0, cool_s - prefill_s), heat.slowdown)
    if reading == writing == 1.0:
        return one, prefill_s, decode_s
    return one.slow_down(reading, writing), prefill_s * reading, decode_s * writing


def stretch(work_s: float, cool_s: float, slowdown: float) -> float:
    """How many times as long some seconds of work take, of which those behind `cool_s` are done throttled."""
    if work_s <= cool_s or work_s <= 0:
        return 1.0
    return 1 + (slowdown - 1) * (work_s - cool_s) / work_s
