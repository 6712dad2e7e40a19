"""Units that meters speak, to watts and joules."""

from __future__ import annotations

import math

from ollama_proxy.domain.metering import Reading, Source

WATTS = {"uW": 1e-6, "mW": 1e-3, "W": 1.0, "kW": 1e3}
JOULES = {"uJ": 1e-6, "mJ": 1e-3, "J": 1.0, "kJ": 1e3, "Wmin": 60.0, "Wh": 3600.0, "kWh": 3.6e6}


def to_reading(source: Source, value: float, unit: str, at_s: float) -> Reading:
    """A figure in its unit as a reading. Raises `ValueError` for what is no figure of a meter."""
    if not math.isfinite(value):
        raise ValueError("the figure is not a finite number")
    if unit in WATTS:
        return Reading(source.id, source.domain, at_s, watts=value * WATTS[unit], kind=source.kind)
    if unit in JOULES:
        return Reading(source.id, source.domain, at_s, joules=value * JOULES[unit], kind=source.kind)
    raise ValueError(f"unit {unit!r} is none of {', '.join((*WATTS, *JOULES))}")
