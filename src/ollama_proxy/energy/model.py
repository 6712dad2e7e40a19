"""Modelled energy: configured watts times the seconds a device worked for a request."""

from __future__ import annotations

import msgspec


class Energy(msgspec.Struct, frozen=True):
    """Joules of one request, None where nothing is known, and the kind of the figure."""

    joules: float | None
    kind: str


def model_energy(power_watts: float, active_s: float, *, emulated: bool) -> Energy:
    """Energy of a request that kept a device busy for `active_s`; of an emulated device the figure is emulated, too."""
    kind = energy_kind(power_watts, emulated=emulated)
    if not power_watts:
        return Energy(None, kind)
    return Energy(power_watts * max(0.0, active_s), kind)


def energy_kind(power_watts: float, *, emulated: bool) -> str:
    """`emulated`, `modelled`, or `unknown` when no watts are configured."""
    if not power_watts:
        return "unknown"
    return "emulated" if emulated else "modelled"
