"""Modelled energy: configured watts times the seconds a device worked for a request."""

from __future__ import annotations


def model_energy(power_watts: float, active_s: float) -> float | None:
    """Joules of a request that kept a device busy for `active_s`; None when nobody knows its draw (0 W)."""
    return power_watts * max(0.0, active_s) if power_watts else None


def energy_kind(power_watts: float, *, emulated: bool) -> str:
    """`emulated`, `modelled`, or `unknown` when no watts are configured."""
    if not power_watts:
        return "unknown"
    return "emulated" if emulated else "modelled"
